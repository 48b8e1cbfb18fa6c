"""Other tools' descriptions of networks -> workload files."""

from accelsim.importing.reading import Imported, Training, import_file

__all__ = ["Imported", "Training", "import_file"]
