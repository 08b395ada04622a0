"""Pictures and pages: the HTML report with its treemap and flame graph, and the plan of layers as SVG.

May import: core to inspect.
To add a part of the page: one module that gives its HTML, called in `page`.
"""
