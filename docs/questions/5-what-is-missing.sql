-- What is not there, and why: what Drift has none of, what was gone, not read, or is owed?
select s.stream, c.id, case
    when a.id is null then 'not read'
    when a.rows is null then 'gone'
    else 'empty' end as why
from conversations as c
join (
    select distinct stream from asked
    where stream in ('conversation_details', 'messages', 'transcripts')
) as s
left join asked as a on a.stream = s.stream and a.id = c.id
where a.id is null or coalesce(a.rows, 0) = 0
union all
select stream, id, 'owed' from owed
order by 1, 2;
