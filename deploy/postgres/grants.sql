-- What `dosi run` and `dosi position` need, and nothing else (docs/security.md). Run by an administrator after each
-- `dosi migrate`; safe to run again and beside running instances:
--
--   psql --set=ON_ERROR_STOP=1 --file=grants.sql dos
--
-- Other names: --set=dosi=ROLE --set=schema=SCHEMA, where SCHEMA holds the tables of DoS. All of it or nothing is done.
\if :{?dosi} \else
    \set dosi dosi
\endif
\if :{?schema} \else
    \set schema pathwaysdos
\endif
BEGIN;
SET LOCAL search_path = :"schema";

-- What was granted before and is needed no longer goes.
REVOKE ALL ON ALL TABLES IN SCHEMA :"schema", dos_integration FROM :"dosi";
REVOKE ALL ON ALL SEQUENCES IN SCHEMA :"schema", dos_integration FROM :"dosi";
REVOKE ALL ON SCHEMA :"schema", dos_integration FROM :"dosi";

GRANT USAGE ON SCHEMA :"schema", dos_integration TO :"dosi";

-- Services and their opening times: what the comparison reads, and what it may change.
GRANT SELECT (id, uid, name, odscode, typeid, statusid, parentid, address, town, postcode, easting, northing, latitude,
        longitude, publicphone, web),
    UPDATE (statusid, address, town, postcode, easting, northing, latitude, longitude, publicphone, web, modifiedby,
        modifiedtime)
    ON services TO :"dosi";
GRANT SELECT, INSERT (serviceid, dayid), DELETE ON servicedayopenings TO :"dosi";
GRANT SELECT, INSERT (servicedayopeningid, starttime, endtime) ON servicedayopeningtimes TO :"dosi";
GRANT SELECT, INSERT (serviceid, date), UPDATE (date), DELETE ON servicespecifiedopeningdates TO :"dosi";
GRANT SELECT, INSERT (servicespecifiedopeningdateid, starttime, endtime, isclosed), UPDATE (starttime, endtime, isclosed)
    ON servicespecifiedopeningtimes TO :"dosi";
GRANT SELECT, INSERT (serviceid, sgid, sdid), DELETE ON servicesgsds TO :"dosi";
GRANT SELECT, INSERT, UPDATE (history) ON servicehistories TO :"dosi";
-- The ids of new rows.
GRANT USAGE ON SEQUENCE servicedayopenings_id_seq, servicedayopeningtimes_id_seq, servicespecifiedopeningdates_id_seq,
    servicespecifiedopeningtimes_id_seq, servicesgsds_id_seq TO :"dosi";

-- Reference tables.
GRANT SELECT (id, name) ON servicetypes, servicestatuses TO :"dosi";
GRANT SELECT (symptomgroupid, symptomdiscriminatorid) ON symptomgroupsymptomdiscriminators TO :"dosi";
GRANT SELECT (id, postcode, postaltown, easting, northing, latitude, longitude) ON locations TO :"dosi";

-- Pending changes, and whom to tell that one was rejected. Personal data: no other column is readable.
GRANT SELECT (id, serviceid, value, approvestatus, creatorsname),
    UPDATE (approvestatus, modifiersname, modifiedtimestamp)
    ON changes TO :"dosi";
GRANT SELECT (username, firstname, lastname, email) ON users TO :"dosi";

-- Its own tables. Mails are written, not read back: another program sends them.
GRANT SELECT ON dos_integration.migrations TO :"dosi";
GRANT SELECT, INSERT, UPDATE ON dos_integration.consumer_position TO :"dosi";
GRANT SELECT, INSERT, DELETE ON dos_integration.outbox TO :"dosi";
GRANT SELECT, INSERT, UPDATE (sequence_number) ON dos_integration.accepted_sequence TO :"dosi";
GRANT SELECT, INSERT ON dos_integration.change_event_archive TO :"dosi";
GRANT INSERT ON dos_integration.mail_queue, dos_integration.kept_history TO :"dosi";
COMMIT;
