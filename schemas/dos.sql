-- The tables of the Directory of Services that dosi reads and writes, for tests and the demo, with DoS's own reference rows.
-- A real deployment has them already, and dosi never changes their definition.

CREATE SCHEMA pathwaysdos;
SET search_path = pathwaysdos;

CREATE TABLE servicetypes (
    id integer PRIMARY KEY,
    name varchar(255) NOT NULL,
    nationalranking varchar(255),
    searchcapacitystatus boolean,
    capacitymodel varchar(255),
    capacityreset varchar(255)
);
CREATE INDEX ON servicetypes (name);

CREATE TABLE servicestatuses (
    id serial PRIMARY KEY,
    name varchar(255) NOT NULL
);

CREATE TABLE openingtimedays (
    id serial PRIMARY KEY,
    name varchar(255) NOT NULL
);

CREATE TABLE services (
    id serial PRIMARY KEY,
    uid varchar(255) NOT NULL,
    name varchar(255) NOT NULL,
    odscode varchar(255),
    isnational varchar(255),
    openallhours boolean NOT NULL DEFAULT false,
    publicreferralinstructions text,
    telephonetriagereferralinstructions text,
    restricttoreferrals boolean NOT NULL DEFAULT false,
    address varchar(512),
    town varchar(255),
    postcode varchar(255),
    easting integer,
    northing integer,
    publicphone varchar(255),
    nonpublicphone varchar(255),
    fax varchar(255),
    email varchar(255),
    web varchar(512),
    createdby varchar(255),
    createdtime timestamptz(0),
    modifiedby varchar(255),
    modifiedtime timestamptz(0),
    lasttemplatename text,
    lasttemplateid integer,
    typeid integer REFERENCES servicetypes,
    parentid integer REFERENCES services,
    subregionid integer REFERENCES services,
    statusid integer REFERENCES servicestatuses,
    organisationid integer,
    returnifopenminutes integer,
    publicname varchar(255),
    latitude double precision,
    longitude double precision,
    professionalreferralinfo text,
    lastverified timestamptz,
    nextverificationdue timestamptz
);
CREATE INDEX ON services (parentid);
CREATE INDEX ON services (odscode);
CREATE INDEX ON services (uid);
CREATE INDEX ON services (name);
CREATE INDEX ON services (subregionid);
CREATE INDEX ON services (createdtime);
CREATE INDEX ON services (typeid);
CREATE INDEX ON services (easting, northing);
CREATE INDEX ON services (statusid);
CREATE INDEX ON services (modifiedtime);

CREATE SEQUENCE services_uid_seq START 2000000000;
CREATE FUNCTION services_uid() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.uid IS NULL THEN
        NEW.uid := nextval('pathwaysdos.services_uid_seq');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER services_uid BEFORE INSERT ON services FOR EACH ROW EXECUTE FUNCTION services_uid();

CREATE TABLE servicedayopenings (
    id serial PRIMARY KEY,
    serviceid integer NOT NULL REFERENCES services ON DELETE CASCADE,
    dayid integer REFERENCES openingtimedays
);
CREATE INDEX ON servicedayopenings (serviceid);
CREATE INDEX ON servicedayopenings (dayid);

CREATE TABLE servicedayopeningtimes (
    id serial PRIMARY KEY,
    starttime time(0) NOT NULL,
    endtime time(0) NOT NULL,
    servicedayopeningid integer REFERENCES servicedayopenings ON DELETE CASCADE
);
CREATE INDEX ON servicedayopeningtimes (servicedayopeningid);

CREATE TABLE servicespecifiedopeningdates (
    id serial PRIMARY KEY,
    date date NOT NULL,
    serviceid integer REFERENCES services ON DELETE CASCADE
);
CREATE INDEX ON servicespecifiedopeningdates (serviceid);

CREATE TABLE servicespecifiedopeningtimes (
    id serial PRIMARY KEY,
    starttime time(0) NOT NULL,
    endtime time(0) NOT NULL,
    isclosed boolean NOT NULL,
    servicespecifiedopeningdateid integer REFERENCES servicespecifiedopeningdates ON DELETE CASCADE
);
CREATE INDEX ON servicespecifiedopeningtimes (servicespecifiedopeningdateid);

CREATE TABLE symptomgroups (
    id integer PRIMARY KEY,
    name varchar(255) NOT NULL UNIQUE,
    zcodeexists boolean
);

CREATE TABLE symptomdiscriminators (
    id integer PRIMARY KEY,
    description varchar(255) NOT NULL
);

CREATE TABLE symptomgroupsymptomdiscriminators (
    id serial PRIMARY KEY,
    symptomgroupid integer NOT NULL REFERENCES symptomgroups,
    symptomdiscriminatorid integer NOT NULL REFERENCES symptomdiscriminators,
    UNIQUE (symptomgroupid, symptomdiscriminatorid)
);

CREATE TABLE servicesgsds (
    id serial PRIMARY KEY,
    serviceid integer NOT NULL REFERENCES services ON DELETE CASCADE,
    sdid integer NOT NULL REFERENCES symptomdiscriminators ON DELETE CASCADE,
    sgid integer NOT NULL REFERENCES symptomgroups ON DELETE CASCADE,
    UNIQUE (serviceid, sdid, sgid)
);
CREATE INDEX ON servicesgsds (serviceid);
CREATE INDEX ON servicesgsds (sdid);
CREATE INDEX ON servicesgsds (sgid);

CREATE TABLE servicehistories (
    serviceid integer PRIMARY KEY,
    history text NOT NULL
);

CREATE TABLE changes (
    id varchar(255) PRIMARY KEY,
    approvestatus varchar(255) NOT NULL,
    type varchar(255) NOT NULL,
    initiatorname varchar(255) NOT NULL,
    servicename varchar(255) NOT NULL,
    servicetype varchar(255),
    value text NOT NULL,
    createdtimestamp timestamptz(0),
    creatorsname varchar(255),
    modifiedtimestamp timestamptz(0),
    modifiersname varchar(255),
    serviceid integer REFERENCES services ON DELETE CASCADE,
    externalsystem varchar(100),
    externalref varchar(100),
    message text
);
CREATE INDEX ON changes (serviceid, approvestatus);
CREATE INDEX ON changes (serviceid);
CREATE INDEX ON changes (createdtimestamp);

CREATE TABLE users (
    id serial PRIMARY KEY,
    username varchar(255) NOT NULL UNIQUE,
    firstname varchar(255) NOT NULL,
    lastname varchar(255) NOT NULL,
    email varchar(255),
    phone varchar(255),
    status varchar(255),
    createdtime timestamptz(0) NOT NULL,
    webserviceonly boolean NOT NULL DEFAULT false
);

CREATE TABLE locations (
    id serial PRIMARY KEY,
    postcode varchar(255),
    easting integer,
    northing integer,
    postaltown varchar(255),
    postaladdress varchar(255),
    latitude double precision,
    longitude double precision
);
CREATE INDEX ON locations (postcode);
CREATE INDEX ON locations (postaltown);

INSERT INTO servicetypes (id, name) VALUES
    (-1, 'DoS Region'),
    (12, 'Dental Practice'),
    (13, 'Pharmacy'),
    (19, 'Midwifery'),
    (100, 'GP Practice'),
    (131, 'Pharmacy Urgent Medicines Supply'),
    (132, 'Pharmacy Enhanced'),
    (134, 'Pharmacy Distance Selling'),
    (137, 'Integrated Urgent Care (IUC) Pharmacy Clinical Assessment'),
    (148, 'Pharmacy Blood Pressure Check'),
    (149, 'Pharmacy Contraception');

INSERT INTO servicestatuses (id, name) VALUES
    (1, 'active'), (2, 'closed'), (3, 'commissioning'), (4, 'pending'), (5, 'suspended'), (6, 'retired'), (7, 'template');
SELECT setval('servicestatuses_id_seq', 7);

INSERT INTO openingtimedays (id, name) VALUES
    (1, 'Monday'), (2, 'Tuesday'), (3, 'Wednesday'), (4, 'Thursday'), (5, 'Friday'), (6, 'Saturday'), (7, 'Sunday'),
    (8, 'BankHoliday');
SELECT setval('openingtimedays_id_seq', 8);

INSERT INTO symptomgroups (id, name, zcodeexists) VALUES (360, 'z2.0 - Service Types', true);
INSERT INTO symptomdiscriminators (id, description) VALUES
    (14167, 'Pharmacy Palliative Care Medication Stockholder'),
    (14207, 'NHS Community Pharmacy Blood Pressure Check Service'),
    (14210, 'NHS Community Pharmacy Contraception Service');
INSERT INTO symptomgroupsymptomdiscriminators (id, symptomgroupid, symptomdiscriminatorid) VALUES
    (3525, 360, 14167), (6388, 360, 14207), (6389, 360, 14210);
SELECT setval('symptomgroupsymptomdiscriminators_id_seq', 6389);
