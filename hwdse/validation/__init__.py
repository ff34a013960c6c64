"""Validation of the models against reference data, as error tables of `hwdse validate`.

- `simulators/`: runs of SCALE-Sim, Timeloop, AccelForge, ZigZag, ASTRA-sim, Calculon, and a
  Monte-Carlo simulation of failures
- `measured/`: measured collectives, training runs, and RTL cycles of Gemmini
- `power/`: measured power of chips: caps, single products, serving and training jobs
- `aws/`: collectives, kernels, strategies and training throughput of AWS Trainium
- `published/`: energies, areas, die costs and FP64:FP16 ratios from papers and data sheets
- `shared/`: reader of reference files and error metrics

`calibration` imports this package; this package never imports `calibration`.
"""
