-- What the `enrich` step knows: a small register of companies, and rates of exchange.
-- All of it is invented. The example builds it into a SQLite file on first use.

CREATE TABLE company (
    name    TEXT PRIMARY KEY COLLATE NOCASE,
    number  TEXT NOT NULL UNIQUE,
    country TEXT NOT NULL,
    trade   TEXT NOT NULL
);

CREATE TABLE currency (
    code     TEXT PRIMARY KEY,
    per_euro TEXT NOT NULL  -- a decimal number; text, so that no digit is lost
);

INSERT INTO company (name, number, country, trade) VALUES
    ('Quillmoss Mills Ltd',           'GB-104417', 'United Kingdom', 'milling'),
    ('Tarnbrook Bakery Cooperative',  'GB-220938', 'United Kingdom', 'bakery'),
    ('Ostrel Haulage GmbH',           'DE-771203', 'Germany',        'haulage'),
    ('Ostrel Lifts AG',               'CH-330561', 'Switzerland',    'lifts'),
    ('Ferrowick Housing Association', 'IE-058812', 'Ireland',        'housing'),
    ('Vellamoor Instruments Inc',     'US-612090', 'United States',  'instruments');

INSERT INTO currency (code, per_euro) VALUES
    ('EUR', '1'),
    ('GBP', '0.80'),
    ('USD', '1.25'),
    ('CHF', '0.96');
