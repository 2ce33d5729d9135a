//! Questions that may take long. Each one is asked on its own thread, so that a dead broker, or a name server that does not answer, does not delay
//! the caller.

use crate::{Error, Result};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

pub(crate) struct Question<T>(Receiver<Result<T>>);

impl<T: Send + 'static> Question<T> {
    /// Asks the question on a new thread. The thread ends by itself: a request to Kafka has a deadline, and a function of the user is not waited for longer than its caller wants.
    pub(crate) fn ask(question: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Self> {
        let (say, answer) = channel();
        std::thread::Builder::new()
            .name("bayou-ask".into())
            .spawn(move || {
                // The receiver may have been dropped meanwhile.
                let _ = say.send(question());
            })
            .map_err(|e| Error::internal(format!("no thread could be started: {e}")))?;
        Ok(Self(answer))
    }

    /// The answer, or None if there is no answer yet after `wait`.
    pub(crate) fn answer(&self, wait: Duration) -> Option<Result<T>> {
        match self.0.recv_timeout(wait) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(Error::internal("a request to Kafka ended without an answer")))
            }
        }
    }
}
