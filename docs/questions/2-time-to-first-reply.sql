-- How long did visitors wait for the first reply of a bot and of a human, by month (median)?
-- From the beginning of the conversation; private notes are no replies.
with replies as (
    select
        substr(c.createdAt, 1, 7) as month,
        case when json_extract(m.author, '$.bot') then 'bot' else 'human' end as who,
        min(julianday(m.createdAt) - julianday(c.createdAt)) * 86400 as seconds
    from conversations as c
    join messages as m on m.conversationId = c.id
    where json_extract(m.author, '$.type') = 'user' and coalesce(m.type, '') <> 'private_note'
    group by c.id, who
), ranked as (
    select
        *,
        row_number() over (partition by month, who order by seconds) as place,
        count(*) over (partition by month, who) as conversations
    from replies
)
select month, who, conversations, round(avg(seconds), 1) as median_seconds
from ranked
where place in ((conversations + 1) / 2, (conversations + 2) / 2)
group by month, who, conversations
order by month, who;
