"""llama.cpp itself, called from its library: whether it loads a file, how it splits text and what it answers.

Its structures of options are larger than 16 bytes, so they are passed in memory; they are taken here as opaque bytes,
more than there are, filled by its own functions. Only fields at their very beginning are set.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from requirements import ggml_library


class Opaque(ctypes.Structure):
    """A structure whose fields nobody here needs to know."""

    _fields_ = (("words", ctypes.c_uint64 * 64),)


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_QUIET = _LOG(lambda level, text, data: None)


@cache
def library() -> Any:
    folder = ggml_library().parent
    (path,) = folder.glob("libllama.v*.so")
    (ggml,) = folder.glob("libggml.v*.so")
    found = ctypes.CDLL(str(path))
    found.llama_log_set(_QUIET, None)
    ctypes.CDLL(str(ggml)).ggml_backend_load_all_from_path(str(folder).encode())
    found.llama_backend_init()
    for name in ("llama_model_default_params", "llama_context_default_params", "llama_model_quantize_default_params"):
        getattr(found, name).restype = Opaque
    for name in ("llama_model_load_from_file", "llama_init_from_model", "llama_model_get_vocab"):
        getattr(found, name).restype = ctypes.c_void_p
    found.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Opaque]
    found.llama_init_from_model.argtypes = [ctypes.c_void_p, Opaque]
    found.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    found.llama_vocab_n_tokens.argtypes = [ctypes.c_void_p]
    texts = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32]
    found.llama_tokenize.argtypes = [*texts, ctypes.c_bool, ctypes.c_bool]
    found.llama_batch_get_one.restype = Opaque
    found.llama_batch_get_one.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    found.llama_decode.argtypes = [ctypes.c_void_p, Opaque]
    found.llama_get_logits_ith.restype = ctypes.POINTER(ctypes.c_float)
    found.llama_get_logits_ith.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    found.llama_set_n_threads.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32]
    found.llama_free.argtypes = [ctypes.c_void_p]
    found.llama_model_free.argtypes = [ctypes.c_void_p]
    return found


class Llama:
    """A loaded model."""

    def __init__(self, model: int) -> None:
        self._model = model
        self._vocab = library().llama_model_get_vocab(model)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, with what the model's tokenizer adds by itself."""
        content = text.encode()
        room = (ctypes.c_int32 * (len(content) + 8))()
        count = library().llama_tokenize(self._vocab, content, len(content), room, len(room), True, True)
        assert count >= 0
        return list(room[:count])

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """[tokens, vocabulary], one token read after the other."""
        options = library().llama_context_default_params()
        context = library().llama_init_from_model(self._model, options)
        assert context, "no context could be made"
        library().llama_set_n_threads(context, 1, 1)
        try:
            return np.stack([self._after(context, token) for token in tokens])
        finally:
            library().llama_free(context)

    def _after(self, context: int, token: int) -> NDArray[np.float32]:
        one = (ctypes.c_int32 * 1)(token)
        assert library().llama_decode(context, library().llama_batch_get_one(one, 1)) == 0
        found = library().llama_get_logits_ith(context, -1)
        return np.ctypeslib.as_array(found, (library().llama_vocab_n_tokens(self._vocab),)).copy()


@contextmanager
def loaded(path: Path) -> Iterator[Llama]:
    """The model of a GGUF file; fails if llama.cpp refuses it."""
    model = library().llama_model_load_from_file(str(path).encode(), library().llama_model_default_params())
    assert model, f"llama.cpp can't load {path}"
    try:
        yield Llama(model)
    finally:
        library().llama_model_free(model)


def quantized(source: Path, out: Path, file_type: int) -> None:
    """Quantizes as llama-quantize does; `file_type` as in `general.file_type`."""
    options = library().llama_model_quantize_default_params()
    fields = ctypes.cast(ctypes.byref(options), ctypes.POINTER(ctypes.c_int32))
    fields[0], fields[1] = 1, file_type
    assert library().llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(options)) == 0
