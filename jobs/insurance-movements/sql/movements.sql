-- The months are made from their parts: truncating a date goes through nanoseconds, which end in
-- the year 2262. An amount is exceptional above 30 times what is usual for its kind.
SELECT id_mouvement,
       date_op,
       make_date(date_part('year', date_op), date_part('month', date_op), 1) AS mois,
       type_op,
       montant,
       abs(montant) > 30 * CASE type_op
         WHEN 'cotisation' THEN 180
         WHEN 'remboursement' THEN 160
         WHEN 'commission' THEN 45
         WHEN 'virement' THEN 850
         WHEN 'frais_gestion' THEN 18
         WHEN 'rétrocession' THEN 120
         WHEN 'ajustement' THEN 60
         WHEN 'régularisation' THEN 90
         WHEN 'bonus_malus' THEN 35
         WHEN 'correction' THEN 75
         WHEN 'provision' THEN 4200
         WHEN 'pénalité' THEN 80
         WHEN 'annulation' THEN 110
         WHEN 'indemnité' THEN 1500
         WHEN 'franchise' THEN 325
         WHEN 'réassurance' THEN 9000
         WHEN 'intérêts' THEN 22
         WHEN 'prime_exceptionnelle' THEN 500
         WHEN 'recours' THEN 2600
         ELSE 1000
       END AS exceptionnel,
       agence_id,
       pays,
       produit
FROM movements_staging
