-- Who wrote how many messages, in how many conversations? Private notes count.
select
    json_extract(m.author, '$.id') as userId,
    u.name,
    coalesce(u.bot, json_extract(m.author, '$.bot')) as bot,
    count(*) as messages,
    count(distinct m.conversationId) as conversations
from messages as m
left join users as u on u.id = json_extract(m.author, '$.id')
where json_extract(m.author, '$.type') = 'user'
group by 1
order by messages desc, userId;
