//! What a command ends with when it cannot do its work: a chain of causes and, where there is a
//! mend, a line that says which.

use std::error::Error;
use std::fmt;

/// How the process ends when a command fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The work failed: exit code 1.
    Failed = 1,
    /// The command line or the configuration was wrong: exit code 2.
    Usage = 2,
}

/// A command's failure. It is not an [`Error`] itself, so that `?` converts every error into it.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    error: Box<dyn Error + Send + Sync>,
    help: Option<String>,
}

/// The result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure that is told by its message alone.
    pub fn new(message: impl Into<String>) -> Self {
        Self { status: Status::Failed, error: message.into().into(), help: None }
    }

    /// A wrong command line or configuration.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { status: Status::Usage, error: error.into(), help: None }
    }

    /// Adds what mends it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// How the process ends.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Whether the reader of our output went away. Where a result is `streamed` there, the failure to
    /// write it may lie deeper.
    pub fn is_broken_pipe(&self, streamed: bool) -> bool {
        let broken = |error: &(dyn Error + 'static)| {
            let io = error.downcast_ref::<std::io::Error>();
            io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
        };
        let first: &(dyn Error + 'static) = &*self.error;
        let causes = std::iter::successors(first.source(), |error| (*error).source());
        broken(first) || streamed && causes.into_iter().any(broken)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { status: Status::Failed, error: Box::new(error), help: None }
    }
}

impl fmt::Display for Failure {
    /// `error: …`, one `caused by: …` a cause that its effect does not already quote, `help: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.error.to_string();
        write!(f, "error: {}", said.trim_end())?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !said.contains(&message) {
                write!(f, "\n  caused by: {}", message.trim_end())?;
                said = message;
            }
            cause = error.source();
        }
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start the run")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `a.png`: {0}")]
    struct Middle(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once_and_the_mend_last() {
        let io = std::io::Error::other("disk on fire");
        let failure = Failure::from(Outer(Middle(io))).help("put it out");
        assert_eq!(
            failure.to_string(),
            "error: cannot start the run\n  caused by: cannot read `a.png`: disk on fire\n\
             help: put it out"
        );
        assert_eq!(failure.status(), Status::Failed);
        assert_eq!(Failure::usage("no").status() as i32, 2);
    }
}
