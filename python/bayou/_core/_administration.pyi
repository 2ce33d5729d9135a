"""Looking after a cluster: the methods of a connection that administer it."""

from collections.abc import Mapping
from typing import Literal

from bayou._core._query import Query
from bayou._core._table import Table
from bayou._core._types import _Offsets

class _Administration:
    def create_partitions(self, topic: str, total: int) -> None:
        """Raise the number of partitions of a topic. Kafka cannot lower it.

        From then on, a key may be in a different partition than its older messages. A running query also reads the new partitions.

        Args:
            topic: The topic.
            total: The number of partitions afterwards. If the topic already has this number, nothing changes.

        Raises:
            TopicError: The topic does not exist, or has more partitions.
            AclError: The credentials do not allow it (ALTER on the topic).

        Example:
            >>> kafka.create_partitions("fitness-tracker", 12)
        """
    def describe_config(self, topic: str | None = None, *, broker: int | None = None) -> Table:
        """The settings of a topic or a broker, by name.

        Columns: name STRING, value STRING (NULL for a secret), source STRING ("topic": set for this topic, "broker" and "cluster": set while the
        brokers run, "file": in the broker's file, "default"), is_default, is_sensitive, is_read_only BOOLEAN.

        Args:
            topic: The topic.
            broker: The number of a broker, instead of a topic.

        Raises:
            TopicError: The topic does not exist.
            AclError: The credentials do not allow it (DESCRIBE_CONFIGS).

        Example:
            >>> settings = kafka.describe_config("fitness-tracker")
            >>> bayou.sql("SELECT name, value FROM settings WHERE NOT is_default", settings=settings)
        """
    def alter_config(self, topic: str, config: Mapping[str, object]) -> None:
        """Change settings of a topic. Settings that are not named stay as they are.

        Args:
            topic: The topic.
            config: Kafka's topic properties. None sets one back to its default.

        Raises:
            ConfigError: A setting does not exist, or the broker refuses its value.
            TopicError: The topic does not exist.
            AclError: The credentials do not allow it (ALTER_CONFIGS on the topic).

        Example:
            >>> kafka.alter_config("fitness-tracker", {"retention.ms": 86_400_000, "max.message.bytes": None})
        """
    def delete_records(self, topic: str, before: _Offsets | Mapping[int, int], *, confirm: bool = False) -> Table:
        """Delete the oldest messages of a topic, for all readers and for good.

        Columns of the result: topic STRING, partition INT, earliest BIGINT (the earliest offset now).

        Args:
            topic: The topic.
            before: Messages before this place are deleted: {0: 42} by partition, an aware datetime (messages with older timestamps, up to the first
                newer one), or "latest" for all.
            confirm: Without True, nothing is deleted, and the error says how much it would be.

        Raises:
            ConfigError: `confirm` is missing.
            TopicError: The topic does not exist, or ends before the offset.
            AclError: The credentials do not allow it (DELETE on the topic).

        Example:
            >>> kafka.delete_records("fitness-tracker", {0: 1000}, confirm=True)
        """
    def offsets(self, topic: str | list[str], *, at: _Offsets = "latest") -> Table:
        """Offsets of each partition. Columns: topic STRING, partition INT, offset BIGINT.

        Args:
            topic: A topic, or a list of topics.
            at: "earliest", "latest" (after the last message that `read_committed` can see), or an aware datetime: the first message at or after
                it, and the latest offset if there is none.

        Raises:
            TopicError: A topic does not exist.

        Example:
            >>> kafka.offsets("fitness-tracker", at="latest").column("offset")
            [33341, 33120]
        """
    def cluster(self) -> Table:
        """The brokers of the cluster.

        Columns: broker INT, host STRING, port INT, rack STRING, is_controller BOOLEAN (requests for the controller go there), version STRING
        ("4.0"; NULL where the listener uses TLS, and where the server does not say it).

        Raises:
            ConnectionError: The cluster does not answer.
            ConfigError: The embedded broker does not support it.

        Example:
            >>> kafka.cluster()
        """
    def consumer_groups(self) -> Table:
        """The consumer groups that these credentials may see, by name.

        bayou keeps positions in checkpoints, so its own queries appear here only with `commit_to_group=`, and iterators with `group_id=`.

        Columns: group STRING, state STRING ("Stable", "Empty", …), type STRING ("Classic", or "Consumer" for KIP-848), members BIGINT (NULL if
        the credentials may not describe the group).

        Raises:
            ConnectionError: A broker does not answer.
            ConfigError: The embedded broker does not support it.

        Example:
            >>> kafka.consumer_groups()
        """
    def describe_group(self, group: str) -> Table:
        """The members of a consumer group, one row each.

        Columns: group, state, assignor STRING, coordinator INT (a broker), member, client_id, instance_id (of static members), host STRING,
        partitions ARRAY<STRING>. A group without members has no rows; `consumer_groups` shows its state.

        Raises:
            ConfigError: The group does not exist.
            AclError: The credentials do not allow it (DESCRIBE on the group).

        Example:
            >>> kafka.describe_group("billing")
        """
    def group_offsets(self, group: str) -> Table:
        """The committed offsets of a consumer group. Columns: topic STRING, partition INT, offset BIGINT.

        Raises:
            ConfigError: The group does not exist.
            AclError: The credentials do not allow it (DESCRIBE on the group).

        Example:
            >>> kafka.group_offsets("billing")
        """
    def lag(self, of: str | Query) -> Table:
        """How many messages a consumer group or a query has not read yet.

        Columns: topic STRING, partition INT, position BIGINT (NULL without a committed offset), latest BIGINT, lag BIGINT; for a group also
        client_id and host STRING of the member that reads the partition. A query's position is that of its newest sealed epoch. Messages of open
        transactions count when they are committed.

        Args:
            of: The name of a consumer group, or a Query.

        Raises:
            ConfigError: The group does not exist.
            AclError: The credentials do not allow it (DESCRIBE on the group).

        Example:
            >>> kafka.lag("billing")
        """
    def reset_group(
        self, group: str, topics: str | list[str] | None = None, *, to: _Offsets, confirm: bool = False
    ) -> Table:
        """Commit new offsets for a consumer group that has no members now. Its members then continue at these offsets.

        Columns of the result: topic STRING, partition INT, before BIGINT, after BIGINT.

        Args:
            group: The group. If the group does not exist, it is created.
            topics: The topics. Default: those that the group has offsets of.
            to: "earliest", "latest", an aware datetime, or {"topic": {0: 42}} (-2 is earliest, -1 is latest). Partitions that a dict does not name
                stay as they are.
            confirm: Without True, nothing is changed, and the error says what would change.

        Raises:
            ConfigError: `confirm` is missing, or the group has members.
            AclError: The credentials do not allow it (READ on the group and the topics).

        Example:
            >>> kafka.reset_group("billing", to="earliest", confirm=True)
        """
    def delete_group(self, group: str, *, confirm: bool = False) -> None:
        """Delete a consumer group with its committed offsets.

        Args:
            group: The group. It must not have members.
            confirm: Without True, nothing is deleted.

        Raises:
            ConfigError: `confirm` is missing, the group does not exist, or it has members.
            AclError: The credentials do not allow it (DELETE on the group).

        Example:
            >>> kafka.delete_group("billing", confirm=True)
        """
    def acls(
        self,
        *,
        principal: str | None = None,
        topic: str | None = None,
        group: str | None = None,
        transactional_id: str | None = None,
        cluster: bool = False,
    ) -> Table:
        """The access control lists of the cluster.

        Columns: principal ("User:alice"), permission ("ALLOW", "DENY"), operation ("READ", "WRITE", …), resource_type ("TOPIC", "GROUP",
        "CLUSTER", "TRANSACTIONAL_ID"), resource, pattern ("LITERAL", "PREFIXED"), host, all STRING.

        Args:
            principal: Only those of this principal.
            topic: Only those that count for this topic: by its name, by a prefix, or for all topics ("*").
            group: Only those that count for this consumer group.
            transactional_id: Only those that count for this transactional id.
            cluster: Only those about the cluster.

        Raises:
            AclError: The credentials do not allow it (DESCRIBE on the cluster).
            ConfigError: The cluster has no authorizer.

        Example:
            >>> kafka.acls(topic="fitness-tracker")
        """
    def add_acl(
        self,
        principal: str,
        operation: str | list[str],
        *,
        topic: str | None = None,
        group: str | None = None,
        transactional_id: str | None = None,
        cluster: bool = False,
        pattern: Literal["literal", "prefixed"] = "literal",
        host: str = "*",
        permission: Literal["allow", "deny"] = "allow",
    ) -> Table:
        """Allow or forbid operations. An ACL that exists already stays as it is.

        Args:
            principal: "User:alice". "User:*" is every user.
            operation: "READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "CLUSTER_ACTION", "DESCRIBE_CONFIGS", "ALTER_CONFIGS",
                "IDEMPOTENT_WRITE" or "ALL", or a list. READ, WRITE, DELETE and ALTER include DESCRIBE.
            topic: The topic. "*" is all topics.
            group: The consumer group.
            transactional_id: The transactional id.
            cluster: The cluster itself.
            pattern: With "prefixed", the ACL holds for all names that begin with the given name.
            host: The address of the client. "*" is any address.
            permission: "allow" or "deny". If both match, "deny" wins.

        Returns:
            The ACLs, with the columns of `acls`.

        Raises:
            AclError: The credentials do not allow it (ALTER on the cluster).
            ConfigError: A word is not known, or the cluster has no authorizer.

        Example:
            >>> kafka.add_acl("User:alice", ["READ", "DESCRIBE"], topic="fitness-tracker")
        """
    def remove_acl(
        self,
        principal: str | None = None,
        operation: str | list[str] | None = None,
        *,
        topic: str | None = None,
        group: str | None = None,
        transactional_id: str | None = None,
        cluster: bool = False,
        pattern: Literal["literal", "prefixed"] | None = None,
        host: str | None = None,
        permission: Literal["allow", "deny"] | None = None,
        confirm: bool = False,
    ) -> Table:
        """Remove the access control lists that match all arguments. At least one argument is needed.

        Args:
            principal: As in `add_acl`. None matches all, for this and the others.
            operation: As in `add_acl`.
            topic: The ACLs of exactly this name.
            group: The ACLs of exactly this name.
            transactional_id: The ACLs of exactly this name.
            cluster: The ACLs of the cluster.
            pattern: As in `add_acl`.
            host: As in `add_acl`.
            permission: As in `add_acl`.
            confirm: Without True, nothing is removed, and the error says what would be.

        Returns:
            The ACLs that were removed, with the columns of `acls`.

        Raises:
            AclError: The credentials do not allow it (ALTER on the cluster).
            ConfigError: `confirm` is missing, or every ACL would match.

        Example:
            >>> kafka.remove_acl("User:alice", topic="fitness-tracker", confirm=True)
        """
