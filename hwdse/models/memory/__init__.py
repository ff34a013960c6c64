"""Memory traffic, capacity and ports.

- `hbm_traffic`: HBM traffic of tiled GEMMs in closed form, roofline time.
- `io_lower_bound`: red-blue pebble game and compulsory bounds, demand ratio.
- `loop_nest_traffic`: traffic of a given loop nest at every level.
- `tile_traffic`: traffic of one tile on a weight-stationary array.
- `largest_tile`: largest tile that fits into a core's memories.
- `memory_level_costs`: time and energy of memory levels from their traffic.
- `port_stalls`: stalls at memory ports, first loads and last stores.
"""
