//! Makes durable, every few seconds, what a [`DelayedDisk`] put off.

use std::sync::Arc;
use std::time::Duration;

use crate::base::blocking;
use crate::base::cancel::Cancel;
use crate::base::log;
use crate::sys::delayed_disk::DelayedDisk;

/// Until `stop`; what is written behind that is settled by [`settle`].
pub(super) async fn keep_settling(disk: Arc<DelayedDisk>, every: Duration, stop: Cancel) {
    while stop.guard(tokio::time::sleep(every)).await.is_ok() {
        settle(&disk).await;
    }
}

/// Once.
pub(super) async fn settle(disk: &Arc<DelayedDisk>) {
    let disk = disk.clone();
    match blocking::spawn(move || disk.settle()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::error("app", format_args!("what was written is not on the disk yet ({error}); writers wait for it now")),
        // The panic is in the log.
        Err(_) => {}
    }
}
