"""Reads a results folder and says where untargeted quality breaks down. Needs no torch, ray or mlflow.

- `load.load_sweep(out)`: the sweep with its tables, and which trials are done, diverged, failed or missing.
- `curves.curve_table(sweep)`, `curves.rate_table(sweep)`: gains and language pairs by trial, and by learning rate.
- `resample.mean_curves(sweep)`: improvement over language pairs against the learning rate, with bootstrap replicates.
- `level.estimate_boundaries(sweep)`, `wording.sentence(boundary)`: the boundary with its interval, and in words.
- `resample.gather(sweep)`: what all tables of boundaries take, read once; from it
  `boundary_tables.boundary_table`, `boundary_tables.language_boundaries`, `ratios.boundary_ratios`,
  `gains.best_rates` and `gains.gain_floor`, a DataFrame each; `boundary_print.print_boundaries` for a terminal.
- `plots.plot_curves(sweep, path)`, `plots.plot_heatmap(sweep, which, path)`: pictures.
- `comparison.compare_trials(out, a, b)`, `comparison.read_comparison(out, tower)`: one tower against another.
- `comparison_tables.print_comparison(comparison, console)`: the same for a terminal.
- `beside_paper.lay_beside(out, number)`, `beside_tables.print_beside(beside, console)`: a sweep beside a table of the
  paper; `paper_tables.read_table(number)`: that table.
- `layers.most_changed(sweep)`, `layers.block_table(sweep)`, `layer_tables.print_layers(out, console)`: what moved.
- `terminal.tables(sweep)`, `terminal.completeness_line(sweep)`: the sweep for a terminal.
- `report.write_report(out)`: all of it into `OUT/report/`; `report_sweeps.write_sweeps_report(outs)`: several sweeps.
- `material.material_of(sweep, ...)`: what a report draws on; `report.part_of(material)`: its sections, as `page`
  describes them and `page_html.render_html` and `page_markdown.render_markdown` write them.

In a checkout this folder is the package `analysis`; a wheel installs it as `adiabatic_ray.analysis`.
"""
