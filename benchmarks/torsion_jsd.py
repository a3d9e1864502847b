"""How far a model's torsions are from MD on molecules it never saw, beside MD against itself.

Run ``python -m benchmarks.torsion_jsd STORE --model smallmol --out FILE.json``. Each molecule of the split is rolled
out from its start structure; torsions of rotatable bonds are compared with the MD of the store in 36 bins (natural
logarithm), and the first half of the MD with the second. ``ideal`` is what as many frames drawn from the MD itself
score.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from tito_fast.data.store import open_store
from tito_fast.data.torsions import rotatable_torsions, torsion_angles, torsion_jsd
from tito_fast.data.validity import ValidityCounter
from tito_fast.models.load import load_model
from tito_fast.rollout.chunk import Chunk, Row
from tito_fast.rollout.config import RolloutConfig


def roll_out(model, molecule, config):
    """Return positions (n_steps * n_replicas, n_atoms, 3), nm, without the start."""
    rows = [Row(0, molecule, replica) for replica in range(config.n_replicas)]
    start = torch.as_tensor(molecule.positions).repeat(config.n_replicas, 1)
    scaled = (start / model.info.length_unit_nm).to(model.dtype)
    steps = Chunk(model, rows, config).run(scaled, first_step=0, last_step=config.n_rollout_steps)
    frames = torch.stack(list(steps)).view(-1, molecule.n_atoms, 3)
    return (frames.double() * model.info.length_unit_nm).numpy()


def compare(model, store, trajectory_idx, config):
    """Return the figures of one molecule."""
    molecule = store.molecules[store.trajectories[trajectory_idx].molecule_idx]
    torsions = rotatable_torsions(molecule)
    frames = roll_out(model, molecule, config)
    counter = ValidityCounter(molecule)
    counter.update(np.zeros(len(frames), dtype=np.int64), frames)
    checks = counter.result()["all"]
    row = {
        "molecule": molecule.name,
        "smiles": molecule.smiles,
        "n_torsions": len(torsions),
        "n_frames": len(frames),
        "share_bonds_in_range": checks["share_bonds_in_range"],
        "share_clash_frames": checks["share_clash_frames"],
        "share_inverted_frames": checks["share_inverted_frames"],
    }
    if len(torsions):
        md = torsion_angles(np.asarray(store.trajectory_positions(trajectory_idx)), torsions)
        half = len(md) // 2
        drawn = np.random.default_rng(0).choice(len(md), size=len(frames))
        row |= {
            "jsd": torsion_jsd(torsion_angles(frames, torsions), md).tolist(),
            "jsd_md_halves": torsion_jsd(md[:half], md[half:]).tolist(),
            "jsd_ideal": torsion_jsd(md[drawn], md).tolist(),
        }
    return row


def main():
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--model", default="smallmol")
    parser.add_argument("--split", default="val")
    parser.add_argument("--lag-ps", type=float, default=100.0)
    parser.add_argument("--n-steps", type=int, default=125)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--ode-steps", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    model, store = load_model(options.model), open_store(options.store)
    config = RolloutConfig(
        lag_times_ps=(options.lag_ps,),
        n_rollout_steps=options.n_steps,
        n_replicas=options.replicas,
        n_ode_steps=options.ode_steps,
    )
    rows = [compare(model, store, index, config) for index in store.split_indices(options.split)]
    names = ("jsd", "jsd_md_halves", "jsd_ideal")
    means = {
        name: float(np.mean(np.concatenate([row[name] for row in rows if name in row])))
        for name in names
    }
    report = {
        "model": str(options.model),
        "split": options.split,
        "lag_ps": options.lag_ps,
        "n_ode_steps": options.ode_steps,
        "n_replicas": options.replicas,
        "n_rollout_steps": options.n_steps,
        "n_torsions": sum(row["n_torsions"] for row in rows),
        "mean": means,
        "share_bonds_in_range": float(np.mean([row["share_bonds_in_range"] for row in rows])),
        "molecules": rows,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
