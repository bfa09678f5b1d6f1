//! Strangers that mean no good, in processes of their own. Each has a place: it connects, does its worst, and comes back a second after
//! it was shown out.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Starts this program as attackers: address, first place, number of places, and a kind where all are to be of it.
pub(crate) const ARGUMENT: &str = "--attackers";

/// Places of one process: it needs a descriptor for each, and the usual limit is 1,024 or more.
const PLACES: usize = 1000;
/// Whoever was shown out comes back after this time.
const BACK_AFTER: Duration = Duration::from_secs(1);
/// Between two bytes of the slow.
const SLOW: Duration = Duration::from_millis(500);

/// What a stranger does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing at all.
    Silent,
    /// A head that never ends, field by field.
    SlowHead,
    /// A head just within the limit, but for its end.
    FullHead,
    /// A head far beyond the limit.
    HugeHead,
    /// A body without a key, as long as anybody listens.
    HugeBody,
    /// The one body that is read before a key is known, most of it at once, the rest slowly.
    SlowLogin,
    /// Bytes of another protocol.
    NoHttp,
    /// A request that could be two.
    TwoMeanings,
    /// Wrong keys, one after the other.
    WrongKeys,
    /// Many requests, and no ear for the answers.
    Deaf,
}

pub(crate) const KINDS: [Kind; 10] = [
    Kind::Silent,
    Kind::SlowHead,
    Kind::FullHead,
    Kind::HugeHead,
    Kind::HugeBody,
    Kind::SlowLogin,
    Kind::NoHttp,
    Kind::TwoMeanings,
    Kind::WrongKeys,
    Kind::Deaf,
];

impl Kind {
    /// In words, for a table.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::SlowHead => "slow: a head without end",
            Self::SlowLogin => "slow: a login's body",
            Self::FullHead => "huge: a head just within the limit, not ended",
            Self::HugeHead => "huge: a head of 1 MiB",
            Self::HugeBody => "huge: a body of 1 GB, no key",
            Self::NoHttp => "malformed: another protocol",
            Self::TwoMeanings => "malformed: two lengths",
            Self::WrongKeys => "wrong keys, again and again",
            Self::Deaf => "many requests, answers not read",
        }
    }
}

/// An attack under way; over when dropped.
pub(crate) struct Attack(Vec<(Child, BufReader<ChildStdout>)>);

/// What came of an attack.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// Connections tried.
    pub(crate) tried: u64,
    /// Connections that were shown out, or refused.
    pub(crate) ended: u64,
}

impl Attack {
    /// Begins with this many places: of all kinds, or of one.
    pub(crate) fn begin(address: &str, count: usize, kind: Option<Kind>) -> Self {
        let process = |first: usize| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args([ARGUMENT, address, &first.to_string(), &PLACES.min(count - first).to_string()]);
            command.args(kind.map(|kind| format!("{kind:?}")));
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let out = BufReader::new(child.stdout.take().unwrap());
            (child, out)
        };
        Self((0..count).step_by(PLACES).map(process).collect())
    }

    /// Waits until every place has begun.
    pub(crate) fn all_tried(&mut self) {
        for (_, out) in &mut self.0 {
            out.read_line(&mut String::new()).unwrap();
        }
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Tries {
        let mut all = Tries::default();
        for (child, out) in &mut self.0 {
            drop(child.stdin.take());
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap());
            all.tried += numbers.next().unwrap();
            all.ended += numbers.next().unwrap();
        }
        all
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What one process has done so far.
#[derive(Default)]
struct Counts {
    tried: AtomicU64,
    ended: AtomicU64,
}

/// Attacks until standard input ends, then says how often.
pub(crate) fn serve(args: &[String]) {
    // They have a machine of their own, as it were: what is left of this one.
    rustix::process::setpriority_process(None, 19).unwrap();
    let address: SocketAddr = args[0].parse().unwrap();
    let (first, count): (usize, usize) = (args[1].parse().unwrap(), args[2].parse().unwrap());
    let only = args.get(3).map(|name| *KINDS.iter().find(|kind| format!("{kind:?}") == *name).unwrap());
    let counts = Arc::new(Counts::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (all_tried, mut first_tries) = tokio::sync::mpsc::channel::<()>(count);
    for place in first..first + count {
        // Not in step with the addresses.
        let kind = only.unwrap_or(KINDS[place / 4 % KINDS.len()]);
        runtime.spawn(attacker(place, kind, address, counts.clone(), all_tried.clone()));
    }
    drop(all_tried);
    let (over, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        drop(over);
    });
    runtime.block_on(async {
        while first_tries.recv().await.is_some() {}
        println!("all tried");
        let _ = std::io::stdout().flush();
        let _ = end.await;
    });
    println!("{} {}", counts.tried.load(Ordering::Relaxed), counts.ended.load(Ordering::Relaxed));
}

async fn attacker(place: usize, kind: Kind, address: SocketAddr, counts: Arc<Counts>, tried: tokio::sync::mpsc::Sender<()>) {
    let mut tried = Some(tried);
    loop {
        counts.tried.fetch_add(1, Ordering::Relaxed);
        drop(tried.take());
        // Where the server's queue is full, the system tries again and again for two minutes.
        if let Ok(mut socket) = connect(place, address).await {
            let _ = attack(kind, &mut socket).await;
        }
        counts.ended.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(BACK_AFTER).await;
    }
}

/// Two of three come from many addresses, 40 from each, so that the cap on one peer does not help; the others from four.
async fn connect(place: usize, address: SocketAddr) -> std::io::Result<TcpStream> {
    let byte = |n: usize| u8::try_from(n % 250 + 1).unwrap();
    let from = if place % 3 == 0 {
        Ipv4Addr::new(127, 2, 0, byte(place % 4))
    } else {
        Ipv4Addr::new(127, 1, byte(place / 40 / 250), byte(place / 40))
    };
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.into(), 0))?;
    socket.connect(address).await
}

/// What the great ones say, made once: making it for each connection would cost more than what it is about.
struct Great {
    full_head: Vec<u8>,
    huge_head: Vec<u8>,
    huge_body: Vec<u8>,
    chunk: Vec<u8>,
    many: Vec<u8>,
}

static GREAT: LazyLock<Great> = LazyLock::new(|| Great {
    full_head: head("GET /", &format!("x: {}", "a".repeat(16_000))).into_bytes(),
    huge_head: head("GET /", &format!("x: {}", "a".repeat(1 << 20))).into_bytes(),
    huge_body: head("POST /api/chat", "Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n").into_bytes(),
    chunk: vec![b'a'; 64 * 1024],
    many: head("GET /health", "\r\n").repeat(1000).into_bytes(),
});

fn head(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}")
}

/// One connection until the server ends it.
async fn attack(kind: Kind, socket: &mut TcpStream) -> std::io::Result<()> {
    match kind {
        Kind::Silent => {}
        Kind::SlowHead => return trickle(socket, &head("GET /api/status", ""), "x-a: b\r\n").await,
        Kind::FullHead => socket.write_all(&GREAT.full_head).await?,
        Kind::HugeHead => socket.write_all(&GREAT.huge_head).await?,
        Kind::HugeBody => {
            socket.write_all(&GREAT.huge_body).await?;
            while socket.write_all(&GREAT.chunk).await.is_ok() {}
        }
        Kind::SlowLogin => {
            let whole = head("POST /api/login", "Content-Type: application/json\r\nContent-Length: 4096\r\n\r\n") + &"a".repeat(4000);
            return trickle(socket, &whole, "a").await;
        }
        Kind::NoHttp => socket.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n\0\xff").await?,
        Kind::TwoMeanings => {
            socket.write_all(head("POST /api/chat", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello").as_bytes()).await?
        }
        Kind::WrongKeys => return trickle(socket, "", &head("GET /api/status", "Authorization: Bearer wrong\r\n\r\n")).await,
        Kind::Deaf => while socket.write_all(&GREAT.many).await.is_ok() {},
    }
    let mut sink = [0; 4096];
    while socket.read(&mut sink).await? > 0 {}
    Ok(())
}

/// Says this, then that again and again, slowly, until the server has enough.
async fn trickle(socket: &mut TcpStream, first: &str, again: &str) -> std::io::Result<()> {
    socket.write_all(first.as_bytes()).await?;
    let (mut from, mut to) = socket.split();
    let speak = async {
        while to.write_all(again.as_bytes()).await.is_ok() {
            tokio::time::sleep(SLOW).await;
        }
    };
    let hear = async {
        let mut sink = [0; 4096];
        while let Ok(1..) = from.read(&mut sink).await {}
    };
    tokio::select! {
        () = speak => {}
        () = hear => {}
    }
    Ok(())
}
