"""Trains a tokenizer and a small transformer on Banking77 and sets queries aside for calibration and tuning.

Reads `$EDGEWRIGHT_BENCH/banking77`, writes `work/classifier.safetensors`, `work/tokenizer.json`, `work/labels.txt`,
`work/heldout.csv` and, for passes that train, `work/train.csv` beside this file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import time
from pathlib import Path

import torch
from network import LENGTH, PADDING, VOCABULARY, classifier
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

WORK = Path(__file__).parent / "work"
HELD_OUT = 1003  # queries of the training file that training never sees
UNKNOWN = 1
Rows = list[tuple[str, str]]


def read(path: Path) -> Rows:
    """Returns (text, category) pairs."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def write(path: Path, rows: Rows) -> None:
    """Writes the pairs in the form they came in."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "category"), *rows])


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """WordPiece over lower-case words; padding is token 0."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    )
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """Returns token numbers [n, LENGTH], cut or padded."""
    ids = torch.full((len(texts), LENGTH), PADDING)
    for row, encoding in zip(ids, tokenizer.encode_batch(texts), strict=True):
        kept = torch.tensor(encoding.ids[:LENGTH])
        row[: len(kept)] = kept
    return ids


def batches(ids: Tensor, size: int) -> list[Tensor]:
    """Row numbers in batches of similar length, in random order: less padding, less work."""
    lengths = (ids != PADDING).sum(1) + torch.rand(len(ids)) * 4
    groups = list(lengths.argsort().split(size))
    random.shuffle(groups)
    return groups


def train(network: nn.Module, ids: Tensor, labels: Tensor, epochs: int, batch: int, drop: float) -> None:
    """One cycle of AdamW with label smoothing; a share of the tokens is hidden in every step."""
    steps = -(-len(ids) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=epochs * steps, pct_start=0.15)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in batches(ids, batch):
            x = ids[rows]
            x = x[:, : int((x != PADDING).sum(1).max())]
            x = torch.where((torch.rand(x.shape) < drop) & (x != PADDING), UNKNOWN, x)
            loss = loss_of(network(x), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            cycle.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.3f}", flush=True)


@torch.no_grad()
def accuracy(network: nn.Module, ids: Tensor, labels: Tensor) -> float:
    """Share of queries whose most likely intent is the right one."""
    network.eval()
    pairs = zip(ids.split(200), labels.split(200), strict=True)
    return sum(int((network(a).argmax(1) == b).sum()) for a, b in pairs) / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EDGEWRIGHT_BENCH", "")) / "banking77")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--hidden-tokens", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    options = parser.parse_args()
    if not options.data.is_dir():
        raise SystemExit(f"no data in {options.data}: set EDGEWRIGHT_BENCH (see examples/README.md) or give --data")
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    random.seed(0)
    started = time.perf_counter()
    WORK.mkdir(exist_ok=True)
    names: list[str] = json.loads((options.data / "categories.json").read_text())
    rows, test = read(options.data / "train.csv"), read(options.data / "test.csv")
    random.shuffle(rows)  # the files are ordered by category
    write(WORK / "heldout.csv", rows[:HELD_OUT])
    write(WORK / "train.csv", rows[HELD_OUT:])
    (WORK / "labels.txt").write_text("\n".join(names) + "\n")
    known = rows[HELD_OUT:]
    tokenizer = train_tokenizer([text for text, _ in known])
    tokenizer.save(str(WORK / "tokenizer.json"))
    network = classifier(options.dropout)
    labels = torch.tensor([names.index(category) for _, category in known])
    ids = encode(tokenizer, [text for text, _ in known])
    train(network, ids, labels, options.epochs, options.batch, options.hidden_tokens)
    save_file(network.state_dict(), WORK / "classifier.safetensors")
    expected = torch.tensor([names.index(category) for _, category in test])
    top1 = accuracy(network, encode(tokenizer, [text for text, _ in test]), expected)
    print(f"top-1 on the 3,080 test queries: {top1:.4f} after {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
