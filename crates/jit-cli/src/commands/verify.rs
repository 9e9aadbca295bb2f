//! `jit verify`: golden cases against this build.

use std::io::Write;

use jit_train::Communicator;

use crate::cli::VerifyArgs;
use crate::device::{DeviceName, on_device, sound};
use crate::failure::{Failure, Outcome};
use crate::verify::{table, verify};

/// Verifies every file and prints the table. Several processes share trainings; each does all else.
///
/// # Errors
/// When a file cannot be verified, or a deviation exceeds its tolerance.
pub fn run(
    args: &VerifyArgs,
    device: DeviceName,
    comm: &dyn Communicator,
    out: &mut dyn Write,
) -> Outcome {
    let opened = device.open(args.precision.into())?;
    let mut checks = Vec::new();
    for file in &args.files {
        checks.extend(on_device!(&opened, dev => verify(comm, dev, file))?);
    }
    on_device!(&opened, dev => sound(dev))?;
    out.write_all(table(&checks).as_bytes())?;
    let failed = checks.iter().filter(|c| !c.passed()).count();
    if failed > 0 {
        let help = "the table's FAIL lines name the worst tensor of each; try JIT_CPU=portable";
        let message = format!("{failed} of {} checks exceed their tolerance", checks.len());
        return Err(Failure::new(message).help(help));
    }
    Ok(())
}
