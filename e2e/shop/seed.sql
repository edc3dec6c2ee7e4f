-- What the shop starts with: 40 products in 5 categories and 200 customers, the
-- same in every run. Orders come from `tidemark-shop`.
INSERT INTO products (sku, name, category, price, created_at, updated_at)
SELECT
    'SKU-' || lpad(n::text, 4, '0'),
    (ARRAY['Oak', 'Linen', 'Copper', 'Wool', 'Slate', 'Amber', 'Cedar', 'Indigo'])[1 + n % 8]
        || ' ' || (ARRAY['Lamp', 'Chair', 'Kettle', 'Blanket', 'Desk'])[1 + n % 5],
    (ARRAY['Lighting', 'Furniture', 'Kitchen', 'Textiles', 'Office'])[1 + n % 5],
    round((4.95 + (n * 37 % 60) + (n % 20) * 0.05)::numeric, 2),
    now() - interval '400 days',
    now() - interval '400 days'
FROM generate_series(1, 40) n;

INSERT INTO customers (email, name, country, city, address, created_at, updated_at)
SELECT
    'customer' || n || '@shop.example',
    (ARRAY['Ada', 'Björn', 'Chloé', 'Dmitri', 'Esi', 'Fatma', 'Goro', 'Hana', 'Inés', 'Jan'])[1 + n % 10]
        || ' ' || (ARRAY['Okafor', 'Müller', 'Nguyen', 'Silva', 'Larsen', 'Rossi', 'Kim'])[1 + n % 7],
    (ARRAY['DE', 'FR', 'SE', 'DE', 'JP', 'FR', 'DE', 'BR', 'SE', 'NG', 'DE', 'FR', 'TR'])[1 + n % 13],
    (ARRAY['Berlin', 'Lyon', 'Malmö', 'Berlin', 'Osaka', 'Lyon', 'Berlin', 'Recife', 'Malmö', 'Lagos', 'Berlin', 'Lyon',
        'Izmir'])[1 + n % 13],
    n || ' Harbour Street',
    now() - (400 + n % 300) * interval '1 day',
    now() - (400 + n % 300) * interval '1 day'
FROM generate_series(1, 200) n;
