//! Active checks against real sockets.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{Changed, CheckStatus, First, HttpClients, Probes, limit, look, reach};
use crate::registry::{
    instance::RegisteredCheck,
    lease::CheckLive,
    registration::{CheckDefinition, CheckKind, HttpCheck, Thresholds},
};

/// Where a test is not about lateness.
const LONG: Duration = Duration::from_secs(20);

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}

fn http(url: String) -> HttpCheck {
    HttpCheck {
        url,
        method: "GET".to_owned(),
        headers: vec![("x-a".to_owned(), "b".to_owned())],
        body: String::new(),
        interval: LONG,
        timeout: LONG,
        tls_skip_verify: false,
        disable_redirects: false,
    }
}

/// What a check of a server finds that answers with this and then says nothing more, without closing.
async fn found(answer: &'static str, change: impl FnOnce(&mut HttpCheck)) -> (CheckStatus, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let serve = async {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.expect("a request");
            assert!(String::from_utf8_lossy(&head[..read]).contains("x-a: b"));
            let answer = answer.replace("PORT", &address.port().to_string());
            stream.write_all(answer.as_bytes()).await.expect("it is read");
            open.push(stream);
        }
    };
    let mut check = http(format!("http://{address}/health"));
    change(&mut check);
    let (kind, clients) = (CheckKind::Http(check), HttpClients::default());
    tokio::select! {
        found = look(&kind, &clients) => found,
        () = serve => unreachable!("it serves for ever"),
    }
}

#[test]
fn an_answers_status_is_the_checks() {
    block_on(async {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine", CheckStatus::Passing),
            ("HTTP/1.1 204 No Content\r\n\r\n", CheckStatus::Passing),
            ("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n", CheckStatus::Warning),
            ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", CheckStatus::Critical),
            ("nonsense\r\n\r\n", CheckStatus::Critical),
        ] {
            let (found, output) = found(answer, |_| {}).await;
            assert_eq!(found, status, "{answer}: {output}");
        }
        let (_, output) = found("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine", |_| {}).await;
        assert!(output.ends_with("200 OK Output: fine"), "{output}");
    });
}

#[test]
fn an_answer_that_does_not_come_or_does_not_end_is_no_answer() {
    block_on(async {
        let short = |check: &mut HttpCheck| check.timeout = Duration::from_millis(100);
        let (status, output) = found("", short).await;
        assert_eq!((status, output.as_str()), (CheckStatus::Critical, "no answer within 100ms"));
        let (status, _) = found("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfine", short).await;
        assert_eq!(status, CheckStatus::Critical);
    });
}

#[test]
fn a_check_waits_no_longer_than_for_its_next_one_but_a_second_in_any_case() {
    let ms = Duration::from_millis;
    for (timeout, interval, expected) in [
        (ms(10_000), ms(5_000), ms(5_000)),
        (ms(2_000), ms(5_000), ms(2_000)),
        (ms(10_000), ms(100), ms(1_000)),
        (ms(200), ms(100), ms(200)),
    ] {
        assert_eq!(limit(timeout, interval), expected, "{timeout:?} every {interval:?}");
    }
}

#[test]
fn redirections_are_followed_but_not_in_circles_and_not_to_where_credentials_lie() {
    block_on(async {
        let circle =
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:PORT/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let (status, output) = found(circle, |_| {}).await;
        assert!(status == CheckStatus::Critical && output.contains("too many redirections"), "{output}");
        let metadata = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
        let (status, output) = found(metadata, |_| {}).await;
        assert!(status == CheckStatus::Critical && output.contains("link-local"), "{output}");
        let (_, output) = found(metadata, |check| check.disable_redirects = true).await;
        assert!(output.contains("302 Found"), "{output}");
        for url in [
            "http://169.254.169.254/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.1.1]/",
            "http://100.100.100.200/",
            "http://[64:ff9b::a9fe:a9fe]/",
        ] {
            let (status, output) = look(&CheckKind::Http(http(url.to_owned())), &HttpClients::default()).await;
            assert!(status == CheckStatus::Critical && output.contains("link-local"), "{url}: {output}");
        }
        for target in ["169.254.169.254:80", "[fd00:ec2::254]:80"] {
            assert!(reach::resolve(target).await.is_err(), "{target}");
        }
    });
}

#[test]
fn a_check_that_moves_to_another_owner_is_looked_at_there() {
    let check = || RegisteredCheck {
        definition: Arc::new(CheckDefinition {
            id: "moves".to_owned(),
            name: "moves".to_owned(),
            notes: String::new(),
            kind: CheckKind::Tcp { target: "127.0.0.1:1".to_owned(), interval: LONG, timeout: LONG },
            initial: CheckStatus::Critical,
            deregister_after: None,
            thresholds: Thresholds::default(),
        }),
        status: CheckStatus::Critical,
        create_index: 1,
        modify_index: 1,
        live: CheckLive::new(""),
    };
    block_on(async {
        let (mut probes, mut found) = Probes::new(1);
        let (before, after) = (check(), check());
        probes.follow(&[Changed { old: vec![], new: vec![before.clone()] }], First::Spread);
        let (comes, goes) =
            (Changed { old: vec![], new: vec![after.clone()] }, Changed { old: vec![before], new: vec![] });
        probes.follow(&[comes, goes], First::Soon);
        assert_eq!(probes.handles.len(), 1, "the new one goes on");
        let found = found.recv().await.expect("it looks");
        assert!(Arc::ptr_eq(&found.definition, &after.definition));
        probes.end().await;
    });
}

#[test]
fn a_tcp_check_passes_while_connections_are_accepted() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let target = listener.local_addr().expect("it is bound").to_string();
        let kind = CheckKind::Tcp { target, interval: LONG, timeout: LONG };
        assert_eq!(look(&kind, &HttpClients::default()).await.0, CheckStatus::Passing);
        drop(listener);
        let (status, output) = look(&kind, &HttpClients::default()).await;
        assert!(status == CheckStatus::Critical && output.contains("refused"), "{output}");
    });
}
