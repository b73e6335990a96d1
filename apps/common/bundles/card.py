"""The model card of a bundle: what it was trained on, how good it is beside what, and its limits (Mitchell et al., 2019)."""

from apps.common.output import shown


def model_card(record, beside):
    """The text of a bundle's `README.md`.

    Args:
        record: `task`, `options`, `metrics`, `versions`, `data` (source, fingerprint, number of examples of each
            split, and units where these are not the examples that were given).
        beside: `baselines`, `remarks`, `best_epoch`, `epochs`.
    """
    data, options = record["data"], record["options"]
    units = data.get("units", {})
    counts = ", ".join(f"{count} {name} {units.get(name, '')}".strip() for name, count in data["examples"].items())
    lines = [
        f"# {record['task']}: {options.get('model') or 'model'}",
        "",
        f"Data: `{data['source']}` ({counts}), fingerprint `{data['fingerprint']}`.",
        f"Trained on {record['versions'].get('backend')} for {beside['epochs']} epoch{'s' * (beside['epochs'] != 1)}"
        + (f"; the weights are those of epoch {beside['best_epoch']}, the best on validation." if beside["best_epoch"] else "."),
        "",
        "## On test",
        "",
    ]
    others = beside.get("baselines") or {}
    lines.append("| metric | ours |" + "".join(f" {name} |" for name in others))
    lines.append("|---|---|" + "---|" * len(others))
    for name, value in record["metrics"].items():
        cells = "".join(f" {shown(each.get(name))} |" for each in others.values())
        lines.append(f"| {name} | {shown(value)} |{cells}")
    lines += ["", *(f"- {line.removeprefix('remark: ')}" for line in beside.get("remarks", ())), "", "## Limits", ""]
    lines.append("The numbers hold for data like those above. On others, run `triptych evaluate MODEL --data OTHER` first.")
    lines += ["", "## Options", ""]
    lines += [f"- {name}: {value}" for name, value in options.items() if value is not None]
    return "\n".join(lines) + "\n"
