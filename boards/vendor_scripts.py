"""Scripts (Tcl) that bring the peripheral into Vivado and into Quartus' Platform Designer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hdl.read_engine import READ_BURSTS
from ..hdl.verilog import TOP
from ..hdl.write_engine import WRITE_BURSTS
from .axi_ip import (
    CLOCK,
    INTERRUPT,
    LIBRARY,
    MASTER_BUS,
    NAME,
    PARAMETERS,
    RESET,
    SLAVE_BUS,
    VENDOR,
    ip_version,
    ports,
)

if TYPE_CHECKING:
    from ..hdl.config import Config

VLNV = f"{VENDOR}:{LIBRARY}:{NAME}"
#: Clock of the example, MHz.
CLOCK_MHZ = 100


def package() -> str:
    """Completes component.xml for Vivado's catalogue: dialog, checksums; and packs an archive."""
    return f"""\
# vivado -mode batch -source package_ip.tcl
# Completes component.xml (dialog, checksums), checks it and packs the peripheral as an archive.
set folder [file dirname [file normalize [info script]]]
create_project -in_memory
set core [ipx::open_core [file join $folder component.xml]]
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
ipx::archive_core [file join $folder {NAME}.zip] $core
ipx::unload_core $core
close_project
"""


def block_design(config: Config) -> str:
    """A whole design for a Zynq board: processor, peripheral, memory port, interrupt, bitstream."""
    return f"""\
# vivado -mode batch -source block_design.tcl -tclargs BOARD [MHZ]
# BOARD: pynq-z2 or kv260. Writes {TOP}.bit and {TOP}.hwh, which PYNQ loads, beside this script.
# The machine: {config.rows}x{config.cols}, AXI of {config.bus_bits} bits.
set folder [file dirname [file normalize [info script]]]
set board [lindex $argv 0]
set mhz [expr {{[llength $argv] > 1 ? [lindex $argv 1] : {CLOCK_MHZ}}}]
switch -- $board {{
  pynq-z2 {{
    set part xc7z020clg400-1
    set preset tul.com.tw:pynq-z2:part0:1.0
    set processor processing_system7
    set rule xilinx.com:bd_rule:processing_system7
    set settings [list \\
      CONFIG.PCW_FPGA0_PERIPHERAL_FREQMHZ $mhz \\
      CONFIG.PCW_USE_M_AXI_GP0 1 \\
      CONFIG.PCW_USE_S_AXI_HP0 1 \\
      CONFIG.PCW_USE_FABRIC_INTERRUPT 1 \\
      CONFIG.PCW_IRQ_F2P_INTR 1]
    set pins {{M_AXI_GP0 M_AXI_GP0_ACLK S_AXI_HP0 S_AXI_HP0_ACLK FCLK_CLK0 FCLK_RESET0_N IRQ_F2P}}
  }}
  kv260 {{
    set part xck26-sfvc784-2LV-c
    set preset xilinx.com:kv260_som:part0:1.4
    set processor zynq_ultra_ps_e
    set rule xilinx.com:bd_rule:zynq_ultra_ps_e
    set settings [list \\
      CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $mhz \\
      CONFIG.PSU__USE__M_AXI_GP0 1 \\
      CONFIG.PSU__USE__M_AXI_GP1 0 \\
      CONFIG.PSU__USE__M_AXI_GP2 0 \\
      CONFIG.PSU__USE__S_AXI_GP2 1 \\
      CONFIG.PSU__SAXIGP2__DATA_WIDTH {min(config.bus_bits, 128)} \\
      CONFIG.PSU__USE__IRQ0 1]
    set pins {{M_AXI_HPM0_FPD maxihpm0_fpd_aclk S_AXI_HP0_FPD saxihp0_fpd_aclk \\
      pl_clk0 pl_resetn0 pl_ps_irq0}}
  }}
  default {{
    puts stderr "block_design.tcl: unknown board '$board'; there are pynq-z2 and kv260"
    exit 1
  }}
}}
lassign $pins ps_control ps_control_clock ps_memory ps_memory_clock ps_clock ps_reset ps_irq

create_project -force {TOP} [file join $folder project] -part $part
if {{[llength [get_board_parts -quiet $preset]]}} {{
  set_property board_part $preset [current_project]
}} else {{
  puts "block_design.tcl: no board files of $preset: set the processor's memory by hand"
}}
set_property ip_repo_paths $folder [current_project]
update_ip_catalog

create_bd_design design_1
set ps [create_bd_cell -type ip -vlnv xilinx.com:ip:$processor ps]
catch {{apply_bd_automation -rule $rule -config {{apply_board_preset 1}} $ps}}
set_property -dict $settings $ps
create_bd_cell -type ip -vlnv {VLNV} {TOP}
create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset reset
foreach name {{control memory}} {{
  create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect $name
  set_property -dict {{CONFIG.NUM_SI 1 CONFIG.NUM_MI 1}} [get_bd_cells $name]
}}

foreach sink [list ps/$ps_control_clock ps/$ps_memory_clock reset/slowest_sync_clk \\
    control/aclk memory/aclk {TOP}/{CLOCK}] {{
  connect_bd_net [get_bd_pins ps/$ps_clock] [get_bd_pins $sink]
}}
connect_bd_net [get_bd_pins ps/$ps_reset] [get_bd_pins reset/ext_reset_in]
foreach sink {{control/aresetn memory/aresetn {TOP}/{RESET}}} {{
  connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins $sink]
}}
connect_bd_intf_net [get_bd_intf_pins ps/$ps_control] [get_bd_intf_pins control/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins control/M00_AXI] [get_bd_intf_pins {TOP}/{SLAVE_BUS}]
connect_bd_intf_net [get_bd_intf_pins {TOP}/{MASTER_BUS}] [get_bd_intf_pins memory/S00_AXI]
connect_bd_intf_net [get_bd_intf_pins memory/M00_AXI] [get_bd_intf_pins ps/$ps_memory]
connect_bd_net [get_bd_pins {TOP}/{INTERRUPT}] [get_bd_pins ps/$ps_irq]
assign_bd_address
validate_bd_design
save_bd_design

set design [get_files design_1.bd]
add_files -norecurse [make_wrapper -files $design -top]
set_property top design_1_wrapper [current_fileset]
launch_runs impl_1 -to_step write_bitstream -jobs 4
wait_on_run impl_1
set run [get_property DIRECTORY [get_runs impl_1]]
file copy -force [file join $run design_1_wrapper.bit] [file join $folder {TOP}.bit]
set handoff [glob -directory [file join $folder project] -nocomplain \\
  {TOP}.gen/sources_1/bd/design_1/hw_handoff/design_1.hwh \\
  {TOP}.srcs/sources_1/bd/design_1/hw_handoff/design_1.hwh]
file copy -force [lindex $handoff 0] [file join $folder {TOP}.hwh]
"""


def platform_designer(config: Config) -> str:
    """The same peripheral for Quartus' Platform Designer (``*_hw.tcl``)."""
    lines = [
        f"# Weft {config.rows}x{config.cols} for Platform Designer.",
        "package require qsys",
        f"set_module_property NAME {NAME}",
        f"set_module_property VERSION {ip_version()}",
        f'set_module_property DISPLAY_NAME "Weft {config.rows}x{config.cols}"',
        'set_module_property GROUP "Weft"',
        'add_fileset synthesis QUARTUS_SYNTH "" ""',
        f"set_fileset_property synthesis TOP_LEVEL {NAME}",
        *(
            f"add_fileset_file {name} VERILOG PATH {name}{top}"
            for name, top in ((f"{TOP}.v", ""), (f"{NAME}.v", " TOP_LEVEL_FILE"))
        ),
    ]
    for parameter in PARAMETERS:
        lines += [
            f"add_parameter {parameter.name} INTEGER {parameter.value}",
            f"set_parameter_property {parameter.name} HDL_PARAMETER true",
            f"set_parameter_property {parameter.name} ALLOWED_RANGES 0:{(1 << parameter.bits) - 1}",
        ]
    buses = (
        ("clock", "clock", "end", {}),
        ("reset", "reset", "end", {"associatedClock": "clock", "synchronousEdges": "BOTH"}),
        (
            *(MASTER_BUS, "axi4", "start"),
            {
                "associatedClock": "clock",
                "associatedReset": "reset",
                "readIssuingCapability": READ_BURSTS,
                "writeIssuingCapability": WRITE_BURSTS,
                "combinedIssuingCapability": READ_BURSTS + WRITE_BURSTS,
            },
        ),
        (
            *(SLAVE_BUS, "axi4lite", "end"),
            {"associatedClock": "clock", "associatedReset": "reset"},
        ),
        (
            *("interrupt", "interrupt", "end"),
            {
                "associatedAddressablePoint": SLAVE_BUS,
                "associatedClock": "clock",
                "associatedReset": "reset",
            },
        ),
    )
    roles = {CLOCK: "clk", RESET: "reset_n", INTERRUPT: "irq"}
    for name, kind, end, properties in buses:
        lines.append(f"add_interface {name} {kind} {end}")
        lines += [f"set_interface_property {name} {k} {v}" for k, v in properties.items()]
        for port in ports(config):
            if port.bus == name:
                role = roles.get(port.name, port.logical.lower())
                way = "Output" if port.output else "Input"
                lines.append(f"add_interface_port {name} {port.name} {role} {way} {port.bits}")
    return "\n".join(lines) + "\n"
