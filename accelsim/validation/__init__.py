"""Published measurements against the simulator's own figures: what was calibrated, what was predicted."""

from accelsim.validation.comparing import Finding, compare_sheets
from accelsim.validation.loading import load_sheet, shipped_sheets
from accelsim.validation.schema import Sheet
from accelsim.validation.write import write_validation

__all__ = ["Finding", "Sheet", "compare_sheets", "load_sheet", "shipped_sheets", "write_validation"]
