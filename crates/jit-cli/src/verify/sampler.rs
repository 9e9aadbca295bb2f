//! Whole trajectories of the sampler.

use std::str::FromStr;

use jit_model::sampler::Method;
use jit_model::{Denoiser, Device, SampleConfig};

use super::VerifyError;
use super::case::Case;
use super::measure::{Check, tolerance};

/// Prefix of the parameters.
const PARAM: &str = "param.";

/// Draws every trajectory of the case on `dev`.
///
/// # Errors
/// When a tensor or metadata entry is missing or does not fit the network, or a trajectory's name
/// does not say how it was drawn.
pub fn verify<D: Device>(dev: &D, case: &Case) -> Result<Vec<Check>, VerifyError> {
    let model = case.model(PARAM)?;
    let objective = case.objective()?;
    let denoiser = Denoiser::new(dev, &model, &objective);
    let params = case.params(dev, denoiser.registry(), PARAM)?;

    let n = case.shape("labels")?.first().copied().unwrap_or(0);
    let labels = case.indices("labels", &[n], model.null_class())?;
    let images = [n, model.channels, model.image_size, model.image_size];
    let z0 = case.tensor("z0", &images)?;

    let names = case.names();
    let inputs = |name: &String| name.starts_with(PARAM) || *name == "z0" || *name == "labels";
    let mut check =
        Check::new(&case.name(), "trajectories", tolerance::trajectory(dev.precision()));
    for name in names.iter().filter(|name| !inputs(name)) {
        let config = parse(name).ok_or_else(|| {
            let expected = "METHOD_STEPS_cfgCFG_LOW_HIGH, such as heun_50_cfg2.9_0.1_1.0";
            case.misfit(name, "not known".into(), expected.into())
        })?;
        let want = case.tensor(name, &[&[config.steps + 1], &images[..]].concat())?;
        let sampler = denoiser.sampler(dev, &params, &config);
        let mut have = z0.clone();
        sampler.sample(dev.upload(&z0, &images), &labels, |step| {
            have.extend(dev.download(step.z));
        });
        check.relative(name, &have, &want);
    }
    Ok(vec![check])
}

/// How the trajectory called `METHOD_STEPS_cfgCFG_LOW_HIGH` was drawn.
fn parse(name: &str) -> Option<SampleConfig> {
    let parts: Vec<&str> = name.split('_').collect();
    let [method, steps, scale, low, high] = parts[..] else { return None };
    let method = match method {
        "euler" => Method::Euler,
        "heun" => Method::Heun,
        "ab2" => Method::Ab2,
        "dpmpp-2m" => Method::Dpmpp2m,
        _ => return None,
    };
    let number = |text: &str| f32::from_str(text).ok();
    let config = SampleConfig {
        method,
        steps: steps.parse().ok()?,
        cfg_scale: number(scale.strip_prefix("cfg")?)?,
        cfg_interval: [number(low)?, number(high)?],
        ..SampleConfig::default()
    };
    config.validate().is_ok().then_some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_it_was_drawn() {
        let config = parse("heun_5_cfg1.5_0.3_0.7").unwrap();
        assert_eq!((config.method, config.steps), (Method::Heun, 5));
        assert_eq!((config.cfg_scale, config.cfg_interval), (1.5, [0.3, 0.7]));
        for bad in ["heun_5_1.5_0.3_0.7", "rk4_5_cfg1_0_1", "euler_0_cfg1_0_1", "z0", "a_b_c_d_e"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
