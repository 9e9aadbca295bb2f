//! How much of a progressive picture its scans have brought.

/// Coefficients of each block whose precision libjpeg looks at, in zigzag order.
const LOOKED_AT: usize = 10;

/// Precision of the first coefficients of each component.
#[derive(Default)]
pub struct Detail {
    /// For each component, its identifier and for each coefficient how many low bits are still to
    /// come, if it came at all.
    components: Vec<(u8, [Option<u8>; LOOKED_AT])>,
}

impl Detail {
    /// Of a frame with components of these identifiers, before any scan.
    pub fn new(ids: impl Iterator<Item = u8>) -> Self {
        Self { components: ids.map(|id| (id, [None; LOOKED_AT])).collect() }
    }

    /// Notes what the scan with this header brings. A header that is too short is the decoder's to
    /// refuse.
    pub fn note(&mut self, header: &[u8]) {
        let Some((&count, rest)) = header.split_first() else { return };
        let Some((selectors, &[first, last, bits])) = rest.split_at_checked(2 * usize::from(count))
        else {
            return;
        };
        for selector in selectors.chunks_exact(2) {
            for (id, bits_left) in &mut self.components {
                if *id == selector[0] {
                    for (index, left) in bits_left.iter_mut().enumerate() {
                        if (usize::from(first)..=usize::from(last)).contains(&index) {
                            *left = Some(bits & 15);
                        }
                    }
                }
            }
        }
    }

    /// Whether libjpeg would make up detail that is not there (`smoothing_ok` in `jdcoefct.c`):
    /// every component has its means, and some other coefficient is not exact.
    pub fn is_made_up(&self) -> bool {
        self.components.iter().all(|(_, bits)| bits[0].is_some())
            && self.components.iter().any(|(_, bits)| bits[1..].iter().any(|&b| b != Some(0)))
    }
}
