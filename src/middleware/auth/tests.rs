//! Who is admitted with what.

use super::*;

struct Table(Vec<(&'static str, KeyRecord)>);

impl KeyTable for Table {
    fn find(&self, presented: &str) -> Option<KeyRecord> {
        self.0.iter().find(|(text, _)| *text == presented).map(|(_, key)| key.clone())
    }
    fn by_id(&self, id: KeyId) -> Option<KeyRecord> {
        self.0.iter().find(|(_, key)| key.id == id).map(|(_, key)| key.clone())
    }
    fn first_owner(&self) -> OwnerId {
        OwnerId::derived(&[9; 32])
    }
}

fn key(n: u8, revoked: bool, expires_at: Option<u64>) -> KeyRecord {
    KeyRecord {
        id: KeyId::derived(&[n; 32]),
        owner: OwnerId::derived(&[n; 32]),
        name: String::new(),
        scopes: Scopes::of(&[Scope::Read]),
        created_at: Timestamp::from_millis(0),
        expires_at: expires_at.map(Timestamp::from_millis),
        rate_limit_per_minute: None,
        budget: None,
        rotated: None,
        revoked,
    }
}

fn table() -> Table {
    Table(vec![("good", key(1, false, None)), ("revoked", key(2, true, None)), ("old", key(3, false, Some(1000)))])
}

struct Try<'a> {
    fields: &'a [&'a str],
    query: &'a str,
    ticket: bool,
    token: bool,
}

const HEADER: Try<'static> = Try { fields: &[], query: "", ticket: false, token: false };

fn admit(door: &Doorkeeper, tickets: &Tickets, t: &Try<'_>) -> Result<Caller, HttpError> {
    let mut headers = HeaderMap::new();
    for field in t.fields {
        headers.append(header::AUTHORIZATION, field.parse().unwrap());
    }
    let query = Query::parse(t.query).unwrap();
    let shown = Presented {
        headers: &headers,
        query: &query,
        ticket: t.ticket,
        token: t.token,
        cookie: &|| false,
        peer: PeerKey::Unix,
        now: Duration::from_secs(5),
        time: Timestamp::from_millis(1000),
    };
    door.admit(&table(), (tickets, &Logins::new()), true, &shown)
}

fn status(t: &Try<'_>) -> u16 {
    admit(&Doorkeeper::new(), &Tickets::new(), t).map_or_else(|e| e.status.code().as_u16(), |_| 200)
}

#[test]
fn a_good_key_passes_and_others_do_not() {
    for (fields, is) in [
        (&["Bearer good"][..], 200),
        (&["bearer good"], 200),
        (&["Bearer revoked"], 401),
        (&["Bearer old"], 401),
        (&["Bearer unknown"], 401),
        (&["Bearer"], 401),
        (&["Bearer good", "Bearer good"], 401),
        (&["Basic good"], 401),
        (&[], 401),
    ] {
        assert_eq!(status(&Try { fields, ..HEADER }), is, "{fields:?}");
    }
}

#[test]
fn the_query_counts_only_where_the_route_says_so() {
    assert_eq!(status(&Try { query: "token=good", token: true, ..HEADER }), 200);
    assert_eq!(status(&Try { query: "token=good", ..HEADER }), 401);
    assert_eq!(status(&Try { query: "ticket=good", ticket: true, token: true, ..HEADER }), 401, "a key is no ticket");
    assert_eq!(status(&Try { fields: &["Bearer unknown"], query: "token=good", ticket: true, token: true }), 401, "the first one counts");
}

#[test]
fn a_ticket_enters_once_with_its_keys_rights() {
    let (door, tickets) = (Doorkeeper::new(), Tickets::new());
    let ticket = tickets.issue(&Caller::for_tests(1), &crate::base::random::SystemRandom::new(), Duration::from_secs(5)).unwrap();
    let query = format!("ticket={}", ticket.reveal());
    let t = Try { query: &query, ticket: true, ..HEADER };
    assert!(admit(&door, &tickets, &t).unwrap().may(Scope::Read));
    assert!(admit(&door, &tickets, &t).is_err());
}

#[test]
fn the_eleventh_wrong_one_is_429_and_a_good_one_passes() {
    let (door, tickets) = (Doorkeeper::new(), Tickets::new());
    let shown = |field| admit(&door, &tickets, &Try { fields: &[field], ..HEADER }).map_or_else(|e| e.status.code().as_u16(), |_| 200);
    for _ in 0..20 {
        assert_eq!(admit(&door, &tickets, &HEADER).unwrap_err().code, "missing_credential");
    }
    let answers: Vec<u16> = (0..12).map(|_| shown("Bearer nope")).collect();
    assert_eq!(answers, [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 429, 429]);
    assert_eq!(shown("Bearer good"), 200);
}

#[test]
fn a_minute_later_wrong_ones_are_401_again() {
    let door = Doorkeeper::new();
    // The n-th of the first ten comes at n seconds.
    let at = |secs| door.wrong(PeerKey::Unix, "x", Duration::from_secs(secs)).status.code().as_u16();
    assert!((0..10).all(|n| at(n) == 401));
    assert_eq!((at(10), at(61), at(61)), (429, 401, 429), "the tenth before was at 0 s, at 1 s, at 2 s");
    assert_eq!((at(200), at(200)), (401, 401));
}

#[test]
fn the_challenge_says_why() {
    let says = |t: &Try<'_>| {
        let response = admit(&Doorkeeper::new(), &Tickets::new(), t).unwrap_err().into_response();
        assert!(response.body().is_empty());
        response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().to_owned()
    };
    assert_eq!(says(&HEADER), "Bearer realm=\"oxios-edge\"");
    assert!(
        says(&Try { fields: &["Bearer revoked"], ..HEADER })
            .ends_with("error=\"invalid_token\", error_description=\"the key was revoked\"")
    );
}

#[test]
fn switched_off_everybody_is_the_first_owner() {
    let (headers, query) = (HeaderMap::new(), Query::default());
    let shown = Presented {
        headers: &headers,
        query: &query,
        ticket: false,
        token: false,
        cookie: &|| false,
        peer: PeerKey::Unix,
        now: Duration::ZERO,
        time: Timestamp::default(),
    };
    let caller = Doorkeeper::new().admit(&table(), (&Tickets::new(), &Logins::new()), false, &shown).unwrap();
    assert_eq!(caller.owner(), OwnerId::derived(&[9; 32]));
    assert!(caller.may(Scope::Admin) && caller.shown().is_none());
}

#[test]
fn what_is_open_goes_on_while_its_key_is_good() {
    let (logins, now) = (Logins::new(), Timestamp::from_millis(1000));
    let goes_on = |required, key, login| may_go_on(&table(), &logins, required, Holder { key, login }, now);
    let id = |n: u8| KeyId::derived(&[n; 32]);
    assert_eq!([1, 2, 3, 4].map(|n| goes_on(true, id(n), None)), [true, false, false, false], "good, revoked, lapsed, unknown");
    assert!(goes_on(false, nobody(), None) && !goes_on(true, nobody(), None));
    // A browser's goes on while it is logged in, too.
    let cookie = logins.begin(id(1), Duration::from_secs(1), &crate::base::random::SystemRandom::new(), now).unwrap();
    let login = Some(LoginId::of(cookie.reveal()));
    assert!(goes_on(true, id(1), login) && !goes_on(true, id(2), login));
    logins.end(cookie.reveal()).unwrap();
    assert!(!goes_on(true, id(1), login) && goes_on(true, id(1), None));
}

#[test]
fn a_scope_comes_from_the_key() {
    let (door, tickets) = (Doorkeeper::new(), Tickets::new());
    let caller = admit(&door, &tickets, &Try { fields: &["Bearer good"], ..HEADER }).unwrap();
    assert!(require(&caller, Scope::Read).is_ok());
    assert_eq!(require(&caller, Scope::Write).unwrap_err().status, ErrorStatus::Forbidden);
}
