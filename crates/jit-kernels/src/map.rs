//! Files as memory.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// A whole file as bytes, read when they are touched. The system may drop them from memory at any
/// time, since it can read them again.
///
/// Whoever cuts the file short meanwhile ends this process: map files that are renamed into place
/// whole and never written again.
#[derive(Debug)]
pub struct Map(Mmap);

impl Map {
    /// Maps `file`, whose pages will be asked for in no order.
    ///
    /// # Errors
    /// What the system says: a special file, or an empty one on some systems.
    pub fn random(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read only and private to this value; that nothing writes to the file is
        // what this type asks of its users.
        let map = unsafe { Mmap::map(file) }?;
        // Reading ahead would fetch neighbours that nobody asked for. Only a hint.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Random);
        Ok(Self(map))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_holds_what_the_file_holds() {
        let path = std::env::current_exe().unwrap();
        let map = Map::random(&File::open(&path).unwrap()).unwrap();
        assert_eq!(map[..], std::fs::read(path).unwrap());
    }
}
