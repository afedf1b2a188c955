"""The page and the service behind it; needs ``memhop[serve]``.

``limits`` are the bounds of one server, ``models`` the models it serves, ``examples`` fresh
stories for them, ``batches`` answers requests that come together at once, ``guard`` holds every
request to the bounds, ``schemas`` is what goes in and out, ``reading`` splits what is typed
on the page, ``api`` the addresses, ``server`` runs it, and ``page`` is what a browser gets.
"""
