SELECT id,
       amonut
  FROM orders
