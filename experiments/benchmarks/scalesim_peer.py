"""SCALE-Sim 3.0.0 on the layers of a CSV; prints cycles and CPU seconds as JSON.

Runs in a separate environment (`scalesim==3.0.0`, `numpy==1.26.4`); see run.py.
"""

import contextlib
import csv
import io
import json
import pathlib
import sys
import tempfile
import time

CONFIG = """
[general]
run_name = bench
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 100000000
OfmapOffset = 200000000
Dataflow = {dataflow}
Bandwidth = 10
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 1
IfmapSRAMBankPort = 1
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 1
FilterSRAMBankPort = 1
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def simulate(layer: dict[str, str], rows: int, cols: int, dataflow: str) -> dict[str, float]:
    """Index of the last cycle of one simulation, and its CPU seconds."""
    from scalesim.scale_sim import scalesim

    sizes = [layer[key] for key in list(layer)[1:]]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "bench.cfg").write_text(CONFIG.format(rows=rows, cols=cols, dataflow=dataflow))
        header = "name,a,b,c,d,e,f,g,\n"
        (root / "topology.csv").write_text(header + ",".join([layer["name"], *sizes]) + ",\n")
        (root / "layout.csv").write_text(header + ",".join([layer["name"], *["1"] * 21]) + ",\n")
        quiet = io.StringIO()
        start = time.process_time()
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            run = scalesim(
                save_disk_space=True,
                verbose=False,
                config=str(root / "bench.cfg"),
                topology=str(root / "topology.csv"),
                layout=str(root / "layout.csv"),
            )
            run.run_scale(top_path=folder)
        cpu_s = time.process_time() - start
        (simulated,) = run.runner.single_layer_sim_object_list
    return {"total_cycles": int(simulated.total_cycles), "cpu_s": cpu_s}


def main() -> None:
    """Print the results of all layers and dataflows."""
    path, rows, cols = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    lines = [line for line in pathlib.Path(path).read_text().splitlines() if line[:1] != "#"]
    results = [
        {"name": layer["name"], "dataflow": dataflow, **simulate(layer, rows, cols, dataflow)}
        for layer in csv.DictReader(lines)
        for dataflow in ("ws", "os", "is")
    ]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
