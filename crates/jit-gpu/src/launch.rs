//! Grids of kernels.

use cubecl::prelude::*;

/// Units of a cube where each computes one value.
pub const UNITS: u32 = 256;

/// The most cubes along an axis that every runtime takes.
const AXIS: u32 = 65_535;

/// At least `count` cubes, numbered without gaps; a kernel leaves those beyond alone.
pub fn cubes(count: usize) -> CubeCount {
    let count = count.max(1) as u64;
    let rows = count.div_ceil(u64::from(AXIS));
    CubeCount::Static(count.div_ceil(rows) as u32, rows as u32, 1)
}

/// The grid of a kernel with one unit a value.
pub fn each(values: usize) -> (CubeCount, CubeDim) {
    (cubes(values.div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS))
}

/// The grid of a kernel with one cube a row, which reduces it.
pub fn rows(rows: usize) -> (CubeCount, CubeDim) {
    (cubes(rows), CubeDim::new_1d(crate::kernels::reduce::WIDTH as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_cubes_and_no_axis_too_long() {
        for count in [0usize, 1, 65_535, 65_536, 1 << 20, 3_000_000_007] {
            let CubeCount::Static(x, y, z) = cubes(count) else { panic!("static") };
            assert!(x <= AXIS && y <= AXIS && z == 1);
            assert!(u64::from(x) * u64::from(y) >= count as u64);
        }
    }
}
