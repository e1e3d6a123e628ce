-- What did each playbook and its landing pages lead to: conversations, and booked meetings?
select
    d.relatedPlaybookId as playbookId,
    (select name from playbooks where id = d.relatedPlaybookId) as playbook,
    (
        select group_concat(landingPageUrl, ' ') from landing_pages
        where playbookId = d.relatedPlaybookId
    ) as landing_pages,
    count(*) as conversations,
    sum((select count(*) from booked_meetings where conversationId = d.id)) as booked_meetings
from conversation_details as d
group by 1
order by conversations desc, playbookId;
