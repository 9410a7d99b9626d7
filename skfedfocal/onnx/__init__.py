"""Fitted pipelines as ONNX files, through skl2onnx (extra `onnx`).

What is exported says what `predict` and `predict_proba` say, to 1e-5, wherever onnxruntime runs,
and needs neither this package nor torch there.
"""

from skfedfocal.onnx._comparison import Comparison, compare_onnx
from skfedfocal.onnx._convert import register_converters, to_onnx
from skfedfocal.onnx._inputs import onnx_inputs

__all__ = ["Comparison", "compare_onnx", "onnx_inputs", "register_converters", "to_onnx"]
