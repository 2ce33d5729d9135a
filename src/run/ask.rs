//! Questions to Kafka that are asked on a thread of their own, so that a broker that is gone holds nobody up who wants to stop.

use crate::{Error, Result};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

pub struct Question<T>(Receiver<Result<T>>);

impl<T: Send + 'static> Question<T> {
    /// The thread ends by itself: every request has a deadline.
    pub fn ask(question: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Self> {
        let (say, answer) = channel();
        std::thread::Builder::new()
            .name("bayou-ask".into())
            .spawn(move || {
                // Whoever asked may be gone by now.
                let _ = say.send(question());
            })
            .map_err(|e| Error::internal(format!("no thread: {e}")))?;
        Ok(Self(answer))
    }

    /// None: not yet.
    pub fn answer(&self, wait: Duration) -> Option<Result<T>> {
        match self.0.recv_timeout(wait) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(Error::internal("a question to Kafka ended without an answer")))
            }
        }
    }
}
