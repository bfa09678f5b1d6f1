//! How a baseline runs: as many threads as the product has, on a free port of loopback.

use std::future::Future;

use tokio::net::TcpListener;

/// Runs a server until it is killed; prints the address as the product does.
pub(crate) fn listen<F: Future>(serve: impl FnOnce(TcpListener) -> F) {
    // It has no cap on connections, so it may use every descriptor there is.
    oxios_edge::sys::limits::raise_descriptors();
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("listening on http://{}", listener.local_addr().unwrap());
        serve(listener).await
    });
}
