"""`hwdse validate energy|area|cost`: published rows, unmodeled rows, rows of other files."""

import pytest

from hwdse.validation.published import areas, operation_energy, worked_costs

DATA = "tests/data"


def report(module, path):
    return module.validate(path).as_dict()


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "rows.csv"
        path.write_text(text)
        return path

    return write


def test_energy_rows(request):
    table = report(operation_energy, request.config.rootpath / DATA / "energy_per_op.csv")
    assert table["rows_scored"] == 38
    assert sum(table["rows_skipped"].values()) == 6  # four of them chips
    assert table["metrics"]["energy_pj"]["median_ape"] < 0.10
    assert table["groups"]["kind=mac"]["energy_pj"]["max_ape"] < 0.30


def test_area_rows(request):
    table = report(areas, request.config.rootpath / DATA / "area.csv")
    assert table["rows_scored"] == 14
    assert table["groups"]["item=macro"]["area"]["max_ape"] < 0.06
    assert table["groups"]["item=FPU"]["area"]["max_ape"] < 0.01
    dies = report(areas, request.config.rootpath / DATA / "die_areas.csv")
    assert dies["rows_scored"] == 9
    assert dies["metrics"]["area"]["max_ape"] < 0.15
    assert dies["metrics"]["area"]["median_ape"] < 0.07


def test_worked_rows_within_1_percent(request):
    table = report(worked_costs, request.config.rootpath / DATA / "cost.csv")
    assert table["rows_scored"] == 6
    assert table["metrics"]["value"]["max_ape"] < 0.01
    assert table["metrics"]["value"]["mismatches"] == 0


def test_other_rows_of_the_same_columns(written):
    energy = written(
        "kind,format,node_nm,energy_pj,area_um2,per,source,confidence,note\n"
        "mac,fp8_e4m3 mult + fp32 add,5,0.3,,mac,x,D,\n"
        "mult,posit16,7,0.3,,op,x,D,\n"
        "instr,DMMA,7,300,,instruction,x,D,\n"
        "wire,int8,7,0.1,,op,x,D,\n"
        "chip,H200 bf16 tensor all-in,5,0.708,,flop,x,C,\n"
        "chip,Unheard-of fp16 all-in,5,0.708,,flop,x,C,\n"
    )
    table = report(operation_energy, energy)
    assert table["rows_scored"] == 1
    assert table["rows_skipped"] == {
        "not one known format": 1,
        "instruction of unknown size": 1,
        "kind wire: no model": 1,
        "power limit over printed peak: no chip reaches that rate at its limit": 2,
    }
    cost = written(
        "item,value,unit,source,confidence,note\n"
        "worked: yield 400 mm2 N7 D0 0.09 Poisson,0.6977,-,x,C,\n"
        "worked: yield 400 mm2 N7 D0 0.09 Bose-Einstein k 2,0.5407,-,x,C,\n"
        "worked: dies per wafer 400 mm2 plain,143.4,dies,x,C,\n"
        "worked: known-good-die cost 400 mm2 N28,1,USD,x,C,\n"
        "worked: something else,1,USD,x,C,\n"
    )
    table = report(worked_costs, cost)
    assert table["rows_scored"] == 3
    assert table["metrics"]["value"]["max_ape"] < 1e-3
    assert sum(table["rows_skipped"].values()) == 2
    area = written(
        "item,node,value,unit,source,confidence,note\n"
        "MXU 256x256 bf16,N5,39,mm2,x,C,\n"
        "sram macro area,N9,0.3,mm2/MiB,x,C,\n"
        "fp32 FPU,N5,970,um2,x,C,\n"
        "GTX die,N7,100,mm2,x,C,\n"
    )
    table = report(areas, area)
    assert table["rows_scored"] == 2
    assert table["metrics"]["area"]["max_ape"] < 0.01


def test_errors_of_bad_cells_name_the_line(written):
    bad = written("item,value,unit,note\nworked: x,abc,USD,\n")
    with pytest.raises(ValueError, match="line 2, column 'value'"):
        worked_costs.validate(bad)
