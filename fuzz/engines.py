"""What the servers of the newer engines answer: HTTP, etcd, AWS, MySQL and PostgreSQL; and what lies in them."""

from __future__ import annotations

from .aws import a_date, a_dynamodb, a_message, an_item, an_object, an_s3, an_sqs, some_credentials
from .etcd import an_etcd, an_etcd_cell
from .http import an_http_answer
from .postgresql import a_postgresql
from .sql import a_mysql, some_names

TARGETS = (
    *(
        an_http_answer,
        an_etcd,
        an_etcd_cell,
        a_dynamodb,
        an_item,
        an_s3,
        an_object,
        an_sqs,
        a_message,
        a_date,
        some_credentials,
    ),
    *(some_names, a_mysql, a_postgresql),
)
