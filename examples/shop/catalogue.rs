//! What the shop sells: prices, and the stock on the day it opens.

pub struct Product {
    pub sku: &'static str,
    pub name: &'static str,
    pub price_cents: i64,
    /// Some are short, so that a few of the orders in `orders.jsonl` come too late.
    pub stock: i64,
}

pub const CATALOGUE: [Product; 20] = [
    product("MUG-BLUE", "Stoneware mug, blue", 14_50, 150),
    product("MUG-SAND", "Stoneware mug, sand", 14_50, 100),
    product("TEAPOT-900", "Teapot with strainer, 900 ml", 38_00, 80),
    product("TEA-ASSAM", "Assam second flush, 100 g", 8_90, 130),
    product("TEA-SENCHA", "Sencha, first harvest, 100 g", 12_40, 68),
    product("TEA-MINT", "Peppermint, whole leaf, 60 g", 5_20, 120),
    product("COFFEE-HOUSE", "House blend, whole bean, 500 g", 13_80, 170),
    product("COFFEE-DECAF", "Decaf, whole bean, 250 g", 8_60, 50),
    product("GRINDER-HAND", "Hand grinder, steel burrs", 64_00, 33),
    product("DRIPPER-V2", "Porcelain dripper, size 2", 21_90, 90),
    product("FILTER-100", "Paper filters, 100 pieces", 4_30, 120),
    product("KETTLE-GOOSE", "Gooseneck kettle, 1 l", 79_00, 12),
    product("CUP-ESPRESSO", "Espresso cup with saucer", 11_20, 62),
    product("HONEY-LIME", "Lime blossom honey, 250 g", 7_40, 100),
    product("BISCUIT-OAT", "Oat biscuits, tin of 24", 6_80, 120),
    product("TRAY-OAK", "Serving tray, oiled oak", 46_50, 11),
    product("SPOON-BRASS", "Measuring spoon, brass", 9_90, 60),
    product("TOWEL-LINEN", "Tea towel, washed linen", 12_00, 70),
    product("CADDY-TIN", "Tea caddy, double lid", 16_30, 50),
    product("GIFT-BOX", "Gift box with ribbon", 3_50, 40),
];

/// The product of this number, if the shop sells it.
pub fn find(sku: &str) -> Option<&'static Product> {
    CATALOGUE.iter().find(|product| product.sku == sku)
}

/// An amount as a customer reads it: `1,234.50 EUR`.
pub fn euros(cents: i64) -> String {
    let whole = (cents / 100).to_string();
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped}.{:02} EUR", cents % 100)
}

const fn product(sku: &'static str, name: &'static str, price_cents: i64, stock: i64) -> Product {
    Product { sku, name, price_cents, stock }
}
