//! The shop as its users see it: processes, files, HTTP, and a kill in the middle.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use evented::sqlx::{self, ConnectOptions, sqlite::SqliteConnectOptions};

/// What `orders.jsonl` comes to: done, retried and dead of each handler on a stored route.
const DELIVERIES: [(&str, [u64; 3]); 4] = [
    ("OrderPlaced/book_payment", [283, 0, 0]),
    ("OrderPlaced/send_confirmation", [276, 38, 7]),
    ("OrderPlaced/write_invoice", [283, 0, 0]),
    ("OrderRefused/send_regrets", [16, 2, 1]),
];
const ACCEPTED: usize = 283;
const REVENUE_CENTS: i64 = 1_618_900;

#[tokio::test]
async fn the_demo_ends_with_the_numbers_of_the_data_file_and_a_second_run_changes_none() {
    let dir = empty_dir("demo");
    let first = run_demo(&dir);
    assert_table(&first);
    assert!(first.contains("OrderAnswered/count             in_process    300"), "{first}");
    assert_each_order_is_booked_once(&dir).await;

    let second = run_demo(&dir);
    assert_table(&second);
    assert!(second.contains("OrderAnswered/count             in_process      0"), "{second}");
    assert_each_order_is_booked_once(&dir).await;
}

#[tokio::test]
async fn a_demo_killed_in_the_middle_goes_on_and_books_every_order_once() {
    let dir = empty_dir("killed");
    let mut demo = Program::start(&dir, "killed", &[]);
    until("some invoices", &demo.log, || (files(&dir.join("invoices")) >= 20).then_some(()));
    demo.child.kill().unwrap();
    let status = demo.child.wait().unwrap();
    assert!(!status.success(), "the demo had ended before it could be killed");

    assert_table(&run_demo(&dir));
    assert_each_order_is_booked_once(&dir).await;
}

#[tokio::test]
async fn an_order_taken_by_serve_is_delivered_by_a_worker_in_another_process() {
    let dir = empty_dir("serve");
    // With the role `emit` the server delivers nothing itself.
    let mut server = Program::start(&dir, "serve", &["serve", "--port", "0"]);
    let port: u16 = until("the server's port", &server.log, || {
        let out = server.output();
        let (_, rest) = out.split_once("http://127.0.0.1:")?;
        rest.split_once(',')?.0.parse().ok()
    });
    let mut worker = Program::start(&dir, "work", &["work"]);

    let order = |items| post(port, &format!(r#"{{"email": "ada@mail.example", "items": {items}}}"#));
    let answer = order(r#"[{"sku": "MUG-BLUE", "quantity": 2}]"#);
    assert_eq!(answer, (201, r#"{"order":1001}"#.to_owned()), "{}", server.output());
    assert_eq!(order(r#"[{"sku": "KETTLE-GOOSE", "quantity": 99}]"#).0, 409, "more than there are");
    assert_eq!(order(r#"[{"sku": "UNICORN", "quantity": 1}]"#).0, 422, "nothing that the shop sells");
    assert_eq!(order("[]").0, 422, "nothing at all");

    until("the invoice", &worker.log, || dir.join("invoices/01001.html").is_file().then_some(()));
    until("two mails", &worker.log, || (files(&dir.join("mail")) >= 2).then_some(()));
    until("the payment", &worker.log, || {
        request(port, "GET /orders/1001", "").1.contains(r#""booked_cents":2900"#).then_some(())
    });
    assert_eq!(ledger(&dir).await, BTreeMap::from([(1001, vec![2900])]));

    for program in [&mut server, &mut worker] {
        program.interrupt();
        assert!(program.wait().success(), "Ctrl-C is a normal end: {}", program.output());
    }
}

#[test]
fn a_bad_argument_is_explained_and_exits_with_2() {
    let dir = empty_dir("bad-argument");
    for (args, said) in [
        (&["sell"][..], "unknown argument `sell`"),
        (&["serve", "--port", "many"], "`many` is not a port"),
        (&["work", "--port", "3000"], "`--port` belongs to `serve`"),
    ] {
        let mut program = Program::start(&dir, "bad-argument", args);
        assert_eq!(program.wait().code(), Some(2));
        assert!(program.output().contains(said), "{}", program.output());
    }
}

/// The example as a process that does not outlive its test.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(data: &Path, name: &str, args: &[&str]) -> Self {
        let log = data.with_extension(format!("{name}.log"));
        let out = File::create(&log).unwrap();
        let child = Command::new(example())
            .args(args)
            .arg("--data")
            .arg(data)
            .env("EVENTED_ROLE", if args.first() == Some(&"serve") { "emit" } else { "all" })
            .env_remove("EVENTED_QUEUE")
            .env_remove("EVENTED_OUTBOX")
            .env_remove("RUST_LOG")
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// What it has printed so far.
    fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn wait(&mut self) -> ExitStatus {
        let Self { child, log } = self;
        until("the end of the process", log, || child.try_wait().unwrap())
    }

    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_demo(dir: &Path) -> String {
    let mut demo = Program::start(dir, "demo", &[]);
    let status = demo.wait();
    let output = demo.output();
    assert!(status.success(), "{status}:\n{output}");
    output
}

/// `cargo test` builds the examples beside the tests' own directory.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let example = target.join("examples").join(format!("shop{}", std::env::consts::EXE_SUFFIX));
    assert!(example.is_file(), "`{}` is missing; build it with `cargo build --example shop`", example.display());
    example
}

fn empty_dir(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shop-{name}"));
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap();
    }
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Asks again and again, for a minute at most.
fn until<T>(what: &str, log: &Path, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        let said = || fs::read_to_string(log).unwrap_or_default();
        assert!(Instant::now() < deadline, "waited a minute for {what}; the process said:\n{}", said());
        thread::sleep(Duration::from_millis(10));
    }
}

fn files(dir: &Path) -> usize {
    let finished = |file: &fs::DirEntry| file.path().extension().is_some_and(|kind| kind == "html" || kind == "eml");
    fs::read_dir(dir).map_or(0, |files| files.flatten().filter(finished).count())
}

fn assert_table(output: &str) {
    for (handler, expected) in DELIVERIES {
        let row = output.lines().find(|line| line.starts_with(handler));
        let row = row.unwrap_or_else(|| panic!("no row of {handler}:\n{output}"));
        let found: Vec<u64> = row.split_whitespace().skip(2).take(3).map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(found, expected, "{handler}:\n{output}");
    }
    assert!(output.contains("300 placed: 283 accepted, 17 refused"), "{output}");
    assert!(output.contains("283 booked, 16,189.00 EUR in all"), "{output}");
}

async fn assert_each_order_is_booked_once(dir: &Path) {
    let ledger = ledger(dir).await;
    assert_eq!(ledger.len(), ACCEPTED);
    assert_eq!(ledger.values().flatten().sum::<i64>(), REVENUE_CENTS);
    let more: Vec<_> = ledger.iter().filter(|(_, amounts)| amounts.len() != 1).collect();
    assert!(more.is_empty(), "booked more than once: {more:?}");
}

/// The amounts booked for each order.
async fn ledger(dir: &Path) -> BTreeMap<u32, Vec<i64>> {
    let mut db = SqliteConnectOptions::new().filename(dir.join("shop.db")).connect().await.unwrap();
    let rows: Vec<(u32, i64)> =
        sqlx::query_as("select order_number, amount_cents from ledger").fetch_all(&mut db).await.unwrap();
    let mut ledger = BTreeMap::<_, Vec<_>>::new();
    for (order, cents) in rows {
        ledger.entry(order).or_default().push(cents);
    }
    ledger
}

fn post(port: u16, json: &str) -> (u16, String) {
    request(port, "POST /orders", json)
}

/// The status and the body of the answer.
fn request(port: u16, line: &str, json: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = json.len();
    let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "{line} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{json}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
