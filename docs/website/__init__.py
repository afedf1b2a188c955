"""The code and the style of the documentation site, which mkdocs.yml names."""
