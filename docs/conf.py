"""How Sphinx builds these pages: `make docs`."""

from importlib.metadata import version as version_of

project = "Outwork"
author = "the Outwork contributors"
version = release = version_of("outwork")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "attrs_block"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["outwork.css"]
html_title = f"Outwork {version}"
html_show_copyright = False
