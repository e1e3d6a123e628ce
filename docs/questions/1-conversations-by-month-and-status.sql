-- How many conversations began in each month, by their status now?
select substr(createdAt, 1, 7) as month, status, count(*) as conversations
from conversations
group by 1, 2
order by 1, 2;
