"""Run records -> comparison, tables, figures, HTML. Sees records only; never simulates.

Start reading at `write_report`. Importing this package draws nothing and imports no plotting library.
"""

from accelsim.report.comparison import Comparison, compare_records, headline
from accelsim.report.figures import draw_figures
from accelsim.report.tables import TableRow, comparison_table, table_csv, table_markdown, title
from accelsim.report.write import write_report

__all__ = [
    "Comparison",
    "TableRow",
    "compare_records",
    "comparison_table",
    "draw_figures",
    "headline",
    "table_csv",
    "table_markdown",
    "title",
    "write_report",
]
