"""The model, its data and its training."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """A network with a normalisation layer, which counts its batches in whole numbers."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(2, 4)
        self.norm = nn.BatchNorm1d(4)
        self.fc2 = nn.Linear(4, 2)

    def forward(self, x):
        """Return logits."""
        return self.fc2(torch.relu(self.norm(self.fc1(x))))


def load_data(path):
    """Return loaders of what to train and what to test on."""
    [file] = Path(path).glob("tables/*.parquet")
    table = pl.read_parquet(file)
    x = np.stack([table["age"].to_numpy() / 80, (table["arm"] == "B").to_numpy()], axis=1)
    y = (table["outcome"] == "yes").to_numpy().astype(np.int64)
    data = TensorDataset(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y))
    return DataLoader(data, batch_size=16, shuffle=True), DataLoader(data, batch_size=64)


def train(net, loader, epochs, lr, momentum):
    """Return the mean loss."""
    torch.set_num_threads(1)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)
    net.train()
    total = 0.0
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
    return total / len(loader)
