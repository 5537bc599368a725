"""The report of a study: one self-contained HTML page and its figures, made from tables alone.

Where things are, in the order in which they are used:

* `inputs`    what a report is made from
* `checks`    that nothing is missing from it
* `tables`    tidy results to points with intervals, to display tables, to Markdown
* `findings`  the answer in words, computed from the tables; with `findings_of_laws` and `findings_of_settings`, all in
  the grammar of `comparisons`
* `theme`     one colour, dash and marker per curve; light and dark chart themes
* `figures`   the figures, as charts for the page and as SVG and PNG; `charts` draws their panels, from `lines`
* `samples`   thumbnails of the sample images, and the contact sheet of all curves
* `page`      `build_report`: everything above in one `index.html`

Importing this package loads none of them.
"""
