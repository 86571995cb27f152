//! The signals that stop the program.

use std::io::Write as _;
use std::time::{Duration, Instant};

#[cfg(unix)]
use tokio::signal::unix;
use tokio::sync::watch;

use super::Result;

/// The signals that stop the server.
struct Signals {
    #[cfg(unix)]
    interrupt: unix::Signal,
    #[cfg(unix)]
    terminate: unix::Signal,
    #[cfg(unix)]
    hang_up: unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            interrupt: unix::signal(unix::SignalKind::interrupt())?,
            #[cfg(unix)]
            terminate: unix::signal(unix::SignalKind::terminate())?,
            #[cfg(unix)]
            hang_up: unix::signal(unix::SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// A second signal that comes this soon after the first is part of it: a supervisor may signal the process and its
/// group, and a terminal and a script may both do.
const ONE_STOP: Duration = Duration::from_secs(1);

/// Becomes true at the first signal. A second one ends the process, unless it comes within [`ONE_STOP`].
pub(super) fn stop_signal() -> Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut signals = Signals::listen()?;
    tokio::spawn(async move {
        signals.next().await;
        // Kept until the process ends, so that its receivers wait for a signal and nothing else wakes them.
        let _ = stop.send(true);
        let first = Instant::now();
        loop {
            signals.next().await;
            if first.elapsed() >= ONE_STOP {
                break;
            }
        }
        let _ = writeln!(std::io::stderr(), "error: stopped by a second signal; open requests were not answered");
        std::process::exit(1);
    });
    Ok(stopped)
}
