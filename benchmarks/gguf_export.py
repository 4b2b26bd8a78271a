"""Turn a checkpoint of `shapes.py` into the file that llama.cpp reads, in bfloat16. Times nothing.

    .peers/llama/bin/python benchmarks/gguf_export.py FOLDER FILE

Runs in the peer's environment, which has the package `gguf`; it needs neither torch nor ours.
"""

from __future__ import annotations

import argparse
import json
import mmap
from pathlib import Path

import gguf
import numpy as np

_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}

_NORMAL, _CONTROL = 1, 3


def name_of(name: str) -> str:
    """A tensor's name in llama.cpp."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_NAMES[rest]}"


def interleaved(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows of queries or keys in the order in which llama.cpp rotates those of Llama: pairs side by side."""
    halves = rows.reshape(num_heads, 2, rows.shape[0] // num_heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def export(folder: Path, file: Path) -> None:
    """Write config, vocabulary and weights."""
    config = json.loads((folder / "config.json").read_text())
    kind = config["model_type"]
    writer = gguf.GGUFWriter(file, kind)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    add_vocabulary(writer, folder, config["eos_token_id"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, bits in tensors(folder / "model.safetensors"):
        turned = bits
        for projection, num_heads in heads.items():
            if kind == "llama" and projection in name:
                turned = interleaved(bits, num_heads)
        if turned.ndim == 1:
            # Norms and biases are kept in float32 there.
            writer.add_tensor(name_of(name), (turned.astype(np.uint32) << 16).view(np.float32))
        else:
            writer.add_tensor(name_of(name), turned.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, folder: Path, end_id: int) -> None:
    """The byte-level BPE of the folder."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    words = sorted(model["vocab"], key=model["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([_CONTROL if at == end_id else _NORMAL for at in range(len(words))])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]])
    writer.add_eos_token_id(end_id)
    writer.add_add_bos_token(False)
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    writer.add_chat_template(template)


def tensors(file: Path) -> list[tuple[str, np.ndarray]]:
    """Names and the bits of bfloat16 numbers, which numpy has no type for."""
    with file.open("rb") as stream:
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    found = []
    for name, entry in header.items():
        assert entry["dtype"] == "BF16", f"{name} is {entry['dtype']}"
        first, last = entry["data_offsets"]
        bits = np.frombuffer(content, np.uint16, (last - first) // 2, start + first)
        found.append((name, bits.reshape(entry["shape"])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    export(arguments.folder, arguments.file)
    print(f"{arguments.file}: {arguments.file.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
