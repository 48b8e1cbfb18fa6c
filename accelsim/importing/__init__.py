"""Other tools' descriptions of networks -> workload files."""

from accelsim.importing.onnx_model import OnnxChoice
from accelsim.importing.reading import Imported, Training, import_file

__all__ = ["Imported", "OnnxChoice", "Training", "import_file"]
