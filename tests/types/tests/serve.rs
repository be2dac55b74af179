//! A server and a client of one interface, with nothing but words between them.
use std::convert::Infallible;

use bulkhead_test_types::store::{self, Error, GetReply, SizeReply};
use bulkhead_test_types::{plain, store::Server};
use bulkhead_types::{Answer, ClientError, Transport};

#[derive(Default)]
struct Store {
    values: [Option<u16>; 10],
    most: usize,
    /// It answers what its method does not declare.
    is_odd: bool,
}

impl Server for Store {
    fn get(&mut self, key: u8) -> Result<GetReply, Error> {
        if self.is_odd {
            return Err(Error::Full);
        }
        self.values[usize::from(key)].map(|value| GetReply { value }).ok_or(Error::NotFound)
    }

    fn put(&mut self, key: u8, value: u16) -> Result<(), Error> {
        if self.values.iter().flatten().count() == self.most {
            return Err(Error::Full);
        }
        self.values[usize::from(key)] = Some(value);
        Ok(())
    }

    fn size(&mut self) -> SizeReply {
        SizeReply { count: u8::try_from(self.values.iter().flatten().count()).unwrap_or(u8::MAX) }
    }
}

/// Carries words straight to a server, as the kernel would; what no error of the interface is, is lost.
struct Wire<F>(F);

#[derive(Debug, PartialEq, Eq)]
struct Lost;

impl<F: FnMut(u16, &[u64; 6]) -> Answer> Transport for Wire<F> {
    type Refusal = Lost;

    fn call(&mut self, method: u16, _: u8, words: &[u64; 6]) -> Result<[u64; 6], Result<u64, Lost>> {
        match (self.0)(method, words) {
            Answer::Reply(_, words) => Ok(words),
            Answer::Failed(code) => Err(Ok(code)),
            Answer::Malformed | Answer::Unknown => Err(Err(Lost)),
        }
    }
}

fn client(server: &mut Store) -> store::Client<impl Transport<Refusal = Lost>> {
    store::Client(Wire(|method, words: &[u64; 6]| store::dispatch(server, method, words)))
}

#[test]
fn a_call_comes_to_its_method_and_the_answer_comes_back() {
    let mut server = Store { most: 1, ..Store::default() };
    let mut client = client(&mut server);
    assert_eq!(client.put(3, 77), Ok(()));
    assert_eq!(client.get(3), Ok(GetReply { value: 77 }));
    assert_eq!(client.get(4), Err(ClientError::Failed(Error::NotFound)));
    assert_eq!(client.size(), Ok(SizeReply { count: 1 }));
    assert_eq!(client.put(4, 1), Err(ClientError::Failed(Error::Full)));
}

#[test]
fn what_is_outside_its_range_is_not_sent_and_not_served() {
    let mut server = Store { most: 10, ..Store::default() };
    assert_eq!(client(&mut server).get(10), Err(ClientError::Argument));
    assert_eq!(store::dispatch(&mut server, store::method::GET, &[10, 0, 0, 0, 0, 0]), Answer::Malformed);
    assert_eq!(store::dispatch(&mut server, 3, &[0; 6]), Answer::Unknown);
}

#[test]
fn an_error_that_its_method_does_not_declare_is_told_as_none_of_the_interfaces() {
    let mut server = Store { is_odd: true, ..Store::default() };
    assert_eq!(store::dispatch(&mut server, store::method::GET, &[1, 0, 0, 0, 0, 0]), Answer::Failed(0));
    assert_eq!(
        store::dispatch(&mut server, store::method::PUT, &[1, 0, 0, 0, 0, 0]),
        Answer::Failed(Error::Full.code())
    );
}

#[test]
fn a_reply_that_does_not_fit_the_interface_is_none() {
    let mut server = Store { most: 10, ..Store::default() };
    let mut client = client(&mut server);
    assert_eq!(client.put(0, 101), Ok(()));
    assert_eq!(client.get(0), Err(ClientError::Reply));
}

#[test]
fn answers_that_the_interface_does_not_know_are_errors() {
    let mut odd = store::Client(Wire(|_, _: &[u64; 6]| Answer::Reply(1, [101, 0, 0, 0, 0, 0])));
    assert_eq!(odd.get(0), Err(ClientError::Reply));
    let mut odd = store::Client(Wire(|_, _: &[u64; 6]| Answer::Failed(3)));
    assert_eq!(odd.get(0), Err(ClientError::Reply));
    let mut lost = store::Client(Wire(|_, _: &[u64; 6]| Answer::Unknown));
    assert_eq!(lost.get(0), Err(ClientError::Refused(Lost)));
}

#[test]
fn an_interface_without_errors_has_servers_that_cannot_fail() {
    struct Number(u8);
    impl plain::Server for Number {
        fn get(&mut self) -> plain::GetReply {
            plain::GetReply { value: self.0 }
        }

        fn put(&mut self, value: u8) {
            self.0 = value;
        }
    }
    let mut number = Number(1);
    let mut client = plain::Client(Wire(|method, words: &[u64; 6]| plain::dispatch(&mut number, method, words)));
    let put: Result<(), ClientError<Infallible, Lost>> = client.put(7);
    put.unwrap();
    assert_eq!(client.get().unwrap().value, 7);
    client.put(20).unwrap();
    assert_eq!(client.get(), Err(ClientError::Reply), "20 does not fit the reply");
}
