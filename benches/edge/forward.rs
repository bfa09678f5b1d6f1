//! A baseline for what stands between a client and a model: bytes are passed on as they are, in a process of its own.

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use crate::serving::listen;

/// Starts this program as the forwarder; the address behind it is where to.
pub(crate) const ARGUMENT: &str = "--forward";

/// Serves until killed.
pub(crate) fn serve(args: &[String]) {
    let to = args[0].clone();
    listen(async |listener| {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let to = to.clone();
            tokio::spawn(async move {
                let mut model = TcpStream::connect(to).await?;
                client.set_nodelay(true)?;
                model.set_nodelay(true)?;
                copy_bidirectional(&mut client, &mut model).await
            });
        }
    });
}
