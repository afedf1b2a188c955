"""The web page and its HTTP API; needs ``memhop[serve]``.

`limits` has the limits of a server, `models` the models it serves, `examples` generates stories for
them, `batches` answers concurrent requests in batches, `guard` enforces the limits, `schemas` has
the requests and responses, `reading` splits the text of the page, `api` has the routes, `server`
runs it, and `page` has the files for the browser.
"""
