"""Test log-likelihood of a variational autoencoder, with its error and a k-hat for each image.

The latent z has 6 coordinates and a standard normal prior. Each of the 64 pixels is ink or paper,
with a probability that a decoder network gives. The encoder gives q(z | x), a Gaussian for each
image. Both are trained on 1500 digits; the other 297 are the test. Takes about 10 seconds.

With K draws of q(z | x) for each image, the log evidence estimates the test log-likelihood; the
ELBO is a lower bound. An encoder that is trained by the ELBO makes q too narrow: k-hat says for
which images. The same q, 1.3 times as wide, is a better one to draw from.

    python examples/vae_digits.py [--epochs N] [--draws K] [--out PATH]
"""

import argparse
import time

import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.nn import functional

import fastelbo as fe

LATENT, HIDDEN, TRAINING = 6, 64, 1500
WIDER = 1.3


class VAE(nn.Module):
    """Encoder and decoder, each with one hidden layer."""

    def __init__(self):
        """With random weights, in double precision."""
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 2 * LATENT)
        )
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 64))
        self.double()

    def encode(self, x):
        """Mean and standard deviation of q(z | x)."""
        mean, log_scale = self.encoder(x).chunk(2, dim=-1)
        return mean, log_scale.exp()

    def log_likelihood(self, z, x):
        """log p(x | z), the sum over pixels."""
        logits = self.decoder(z)
        return (x * logits - functional.softplus(logits)).sum(-1)


def digits():
    """Images to train with, and images to test with."""
    images = torch.from_numpy(fe.datasets.load_digits().images > 7.5).double()
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    return images[:TRAINING], images[TRAINING:]


def train(images, epochs):
    """A VAE that maximises the ELBO of the images, with one draw of z for each."""
    torch.manual_seed(0)
    vae = VAE()
    optimizer = torch.optim.Adam(vae.parameters(), lr=3e-3)
    for _ in range(epochs):
        for x in images[torch.randperm(len(images))].split(100):
            mean, scale = vae.encode(x)
            z = mean + scale * torch.randn_like(scale)
            kl = 0.5 * (mean**2 + scale**2 - 1.0).sum(-1) - scale.log().sum(-1)
            loss = (kl - vae.log_likelihood(z, x)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return vae


def evaluate(vae, images, n_samples, wider=1.0):
    """The estimate for every image, from draws of q(z | x)."""
    model = fe.Model(
        log_likelihood=vae.log_likelihood,
        prior=fe.Gaussian([0.0] * LATENT, scale=1.0),
        data=images,
        vectorized=True,
        array_namespace="torch",
    )
    # Tensors that require gradients are detached.
    mean, scale = vae.encode(images)
    return fe.estimate(model, fe.Gaussian(mean, scale=wider * scale), n_samples, rng=0)


def report(name, est):
    """Print what one q says about the test images."""
    total = est.total()
    print(f"{name}: k-hat is at most {est.pareto_k.max():.2f}")
    for quantity in ("log_evidence", "elbo"):
        value, se = getattr(total, quantity), getattr(total, f"{quantity}_se")
        print(f"  {quantity}: {value:.2f} ± {se:.2f}, {value / est.elbo.size:.4f} an image")


def draw(narrow, wide, path):
    """k-hat of every image for both q, and both bounds."""
    figure, axes = plt.subplots(1, 2, figsize=(11.0, 4.2), layout="constrained")
    order = wide.log_evidence.argsort()
    for est, name in ((narrow, "q of the encoder"), (wide, f"q {WIDER} times as wide")):
        axes[0].plot(est.pareto_k[order], ".", markersize=5, label=name)
    axes[0].axhline(0.7, color="black", linestyle="--", linewidth=1)
    axes[0].set_ylabel("k-hat")
    axes[1].plot(wide.log_evidence[order], color="black", label="log evidence")
    axes[1].plot(narrow.elbo[order], ".", markersize=4, label="ELBO, q of the encoder")
    axes[1].set_ylabel("nats")
    for ax in axes:
        ax.set_xlabel("test image, in the order of log evidence")
        ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(path, dpi=120)


def main(argv=None):
    """Train, estimate, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--draws", type=int, default=5000, help="K, draws for each image")
    parser.add_argument("--out", default="vae_digits.png", help="file of the figure")
    arguments = parser.parse_args(argv)

    training, test = digits()
    start = time.perf_counter()
    vae = train(training, arguments.epochs)
    print(f"training: {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    narrow, wide = (evaluate(vae, test, arguments.draws, wider) for wider in (1.0, WIDER))
    print(f"two estimates: {time.perf_counter() - start:.1f} s")
    report("q of the encoder", narrow)
    report(f"q {WIDER} times as wide", wide)
    draw(narrow, wide, arguments.out)


if __name__ == "__main__":
    main()
