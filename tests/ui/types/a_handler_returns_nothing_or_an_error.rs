use evented::{event, handler};

#[event]
struct OrderPlaced;

struct NoError;

#[handler(OrderPlaced)]
fn value(_: &OrderPlaced) -> bool {
    true
}

#[handler(OrderPlaced)]
async fn no_error(_: &OrderPlaced) -> Result<(), NoError> {
    Ok(())
}

#[handler(OrderPlaced)]
async fn result_with_a_value(_: &OrderPlaced) -> Result<u32, std::io::Error> {
    Ok(1)
}

#[handler(OrderPlaced)]
async fn boxed_error(_: &OrderPlaced) -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

fn main() {}
