"""How the site is built: `make docs`.

The pages on methods, the reference and the pages under project/ are written by the extensions in
``_ext`` when it is; what they write is not in the repository.
"""

import sys
from pathlib import Path

import offmap

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "offmap"
author = "The authors of offmap"
version = release = offmap.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "method_pages",
    "reference_pages",
    "root_pages",
]
exclude_patterns = ["_ext", "_static", "sg_execution_times.rst", "gallery/sg_execution_times.rst"]
highlight_language = "none"  # a block that names no language is a command or a table

html_theme = "furo"
html_title = f"offmap {version}"
html_static_path = ["_static"]
templates_path = ["_templates"]
_parts = ("brand", "search", "scroll-start", "navigation", "scroll-end")
html_sidebars = {"**": [*(f"sidebar/{part}.html" for part in _parts), "versions.html"]}
html_css_files = ["offmap.css"]
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"

nitpicky = True  # what a docstring speaks of is documented, but for other libraries
nitpick_ignore_regex = [("py:.*", r"(torch|numpy|jaxtyping|collections|typing|pathlib)\..*")]

myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4

# What is learned is told in the words of "Attributes", not as further objects.
napoleon_custom_sections = [("Attributes", "params_style")]
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "plot_",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
}

copybutton_exclude = ".linenos, .gp, .go"
